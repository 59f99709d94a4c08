"""Which patches of which large views are hidden from the student (DINOv2, iBOT)."""

import random
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from lightly.models.utils import random_block_mask_image
from torch import Tensor

_LEAST_PATCHES = 4


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """How much is hidden.

    Attributes:
        views: share of the large views that have hidden patches.
        least, most: share of the patches that are hidden in those; spread evenly over them.
        side: patches in a row of a view.
    """

    views: float
    least: float
    most: float
    side: int


def draw_masks(
    n_tiles: int, *, settings: MaskSettings, part: tuple[int, int], generator: torch.Generator
) -> Bool[Tensor, "view row col"]:
    """Masks of the first views of this process' tiles, then of their second ones.

    Draws are made for the tiles of all processes, so that how many share a batch changes nothing;
    blocks, which take longer, are laid for this process' tiles only. Both as in DINOv2, arXiv
    2304.07193, whose blocks lightly has.

    Args:
        n_tiles: of the whole batch.
        part: this process and how many there are; it has the tiles at ``rank::world``.
        generator: in the same state in all processes.
    """
    shares = _shares(2 * n_tiles, settings=settings, generator=generator)
    seeds = torch.randint(2**31, (2 * n_tiles,), generator=generator)
    rank, world = part
    mine = torch.cat([torch.arange(n_tiles)[rank::world] + first for first in (0, n_tiles)])
    masks = [
        _blocks(settings.side, share=share, seed=seed)
        for share, seed in zip(shares[mine].tolist(), seeds[mine].tolist(), strict=True)
    ]
    return torch.stack(masks)


def _shares(
    n_views: int, *, settings: MaskSettings, generator: torch.Generator
) -> Float64[Tensor, " view"]:
    """The share of its patches that each view hides; 0 for those that hide none."""
    n_masked = int(n_views * settings.views)
    chosen = torch.randperm(n_views, generator=generator)[:n_masked]
    chance = torch.rand(n_masked, generator=generator, dtype=torch.float64)
    # one from each of as many equal parts of the range
    way = (torch.arange(n_masked) + chance) / max(1, n_masked)
    shares = torch.zeros(n_views, dtype=torch.float64)
    shares[chosen] = settings.least + (settings.most - settings.least) * way
    return shares


def _blocks(side: int, *, share: float, seed: int) -> Bool[Tensor, "row col"]:
    if not share:
        return torch.zeros(side, side, dtype=torch.bool)
    # lightly draws from Python's global generator, which is put back afterwards
    before = random.getstate()
    try:
        random.seed(seed)
        n_hidden = max(_LEAST_PATCHES, int(side * side * share))
        mask: Tensor = random_block_mask_image((side, side), n_hidden, _LEAST_PATCHES)
        return mask
    finally:
        random.setstate(before)
