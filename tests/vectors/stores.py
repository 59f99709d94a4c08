"""Tile stores and bags for tests: small, random, of the shapes that matter."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gigassl.bags.bag import Bag, BagInfo
from gigassl.bags.bank import Bank, BankInfo, BankSlide, open_bank
from gigassl.bags.bank_writer import BankWriter
from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.vectors.tile_store import TileStore, store_of_bags

TILE_PX = 448
"""Side of the tiles in level-0 px."""


def grid_bag(
    slide_id: str = "alpha", *, cols: int = 6, rows: int = 5, dim: int = 4, seed: int = 0,
    **facts: Any,
) -> Bag:  # fmt: skip
    """A bag of a full grid of tiles, read at 0.5 µm/px of a slide with 0.25 µm/px."""
    rng = np.random.default_rng([seed, *slide_id.encode()])
    y, x = np.mgrid[:rows, :cols].reshape(2, -1)
    coords = np.stack([x, y], axis=1).astype(np.int64) * TILE_PX
    features = rng.normal(size=(len(coords), dim)).astype(np.float16)
    info: dict[str, Any] = {
        "slide_id": slide_id, "encoder": "some", "encoder_digest": "d1", "mpp_l0": 0.25,
        "tile_px": 224, "side_l0": float(TILE_PX), "target_mpp": 0.5, "effective_mpp": 0.5,
    }  # fmt: skip
    return Bag(features=features, coords=coords, info=BagInfo(**info | facts))


def store_of(*bags: Bag) -> TileStore:
    """A store of these bags, each slide a patient of its own."""
    return store_of_bags(bags, patient_ids=[bag.info.slide_id for bag in bags])


@st.composite
def bags_of(draw: st.DrawFn) -> list[Bag]:
    """One to four bags of different size, all tiles of a grid in any order."""
    bags = []
    for number in range(draw(st.integers(1, 4))):
        cols, rows = draw(st.integers(1, 5)), draw(st.integers(1, 5))
        bag = grid_bag(f"s{number}", cols=cols, rows=rows, seed=draw(st.integers(0, 99)))
        order = np.random.default_rng(number).permutation(len(bag))
        bags.append(Bag(features=bag.features[order], coords=bag.coords[order], info=bag.info))
    return bags


def small_bank(folder: Path, *, augmentations: int = 3, tiles: int = 6, dim: int = 4) -> Bank:
    """A bank on disk of slides s0 and s2; s1 between them failed."""
    info = BankInfo(
        encoder="some", encoder_digest="d1", encoder_dim=dim, dim=dim, settings_digest="e1",
        mpp=0.5, tile_px=224, tile_um=112.0, augmentations=augmentations, tiles=tiles,
        draw="scatter", seed=0, augmentation=AugmentationSettings(),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    folder.mkdir()
    with BankWriter(folder, info, slide_ids=["s0", "s1", "s2"]) as writer:
        for name, mpp in (("s0", 0.25), ("s2", 0.5)):
            slide = BankSlide(
                slide_id=name, row=writer.row_of(name), patient_id=f"p-{name}",
                patient_rule="column", file=f"{name}.svs", n_tissue_tiles=9, um_per_px_l0=mpp,
                mpp_source="file", effective_mpp=0.5, width_l0=9_000, height_l0=9_000,
                side_l0=112 / mpp, slide_digest="", inputs_digest="", encoder_digest="d1",
                settings_digest="e1",
            )  # fmt: skip
            writer.write(
                slide,
                features=rng.normal(size=(augmentations, tiles, dim)).astype(np.float32),
                coords=rng.integers(0, 9, size=(augmentations, tiles, 2)) * TILE_PX,
            )
        writer.finish()
    return open_bank(folder)
