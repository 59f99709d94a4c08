"""Small tile stores to train on."""

import torch

from gigassl.vectors.tile_store import TileStore

DIM = 12

OF_SLIDES = ("barlow", "byol", "simclr", "simsiam", "vicreg")
"""Objectives that any slide encoder can be trained with."""


def small_store(*, n_slides: int = 12, slides_a_patient: int = 1, seed: int = 0) -> TileStore:
    """Slides that differ in the mean of their features; three augmentations of eight tiles."""
    generator = torch.Generator().manual_seed(seed)
    n_augmentations, n_tiles = 3, 8
    shape = (n_slides, n_augmentations, n_tiles, DIM)
    own = torch.randn(n_slides, 1, 1, DIM, generator=generator)
    features = own + torch.randn(shape, generator=generator)
    n_rows = n_slides * n_augmentations * n_tiles
    coords = torch.randint(0, 9, (n_rows, 2), generator=generator) * 448
    return TileStore(
        features=features.reshape(n_rows, DIM).half(),
        coords=coords.int(),
        um_per_unit=torch.full((n_slides,), 0.25),
        first=(torch.arange(n_slides * n_augmentations) * n_tiles).view(n_slides, n_augmentations),
        count=torch.full((n_slides, n_augmentations), n_tiles),
        slide_ids=tuple(f"s{i:02d}" for i in range(n_slides)),
        patient_ids=tuple(f"p{i // slides_a_patient:02d}" for i in range(n_slides)),
        tile_um=112.0,
    )
