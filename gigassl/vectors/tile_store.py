"""Tile store: where views are drawn from, the same for a bank and for a cohort of plain bags."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TileStore:
    """Tiles of all slides, row behind row; each slide has one or more groups of rows.

    A group is one augmentation of a slide; plain bags have a single one.

    Attributes:
        features: one row a tile, float16 or float32; may be memory-mapped, may lie on a GPU.
        coords: (x, y) of each tile, as stored (level-0 px, integers, or already µm).
        um_per_unit: what turns the coordinates of each slide into µm.
        first: first row of each group.
        count: number of rows of each group, at least one.
        slide_ids, patient_ids: one a slide.
        tile_um: side of a tile in µm.
    """

    features: Float[Tensor, "row dim"]
    coords: Shaped[Tensor, "row 2"]
    um_per_unit: Float32[Tensor, " slide"]
    first: Int64[Tensor, "slide augmentation"]
    count: Int64[Tensor, "slide augmentation"]
    slide_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    tile_um: float

    def __len__(self) -> int:
        return len(self.slide_ids)

    @property
    def dim(self) -> int:
        """Width of the tile features."""
        return self.features.shape[1]

    def to(self, device: torch.device | str) -> "TileStore":
        """The whole store in the memory of a device."""
        moved = ("features", "coords", "um_per_unit", "first", "count")
        return replace(self, **{name: getattr(self, name).to(device) for name in moved})
