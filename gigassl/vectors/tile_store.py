"""Tile store: where views are drawn from, the same for a bank and for a cohort of plain bags."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32, Int32, Int64, Shaped
from torch import Tensor

from gigassl.bags.bag import Bag
from gigassl.bags.bank import Bank
from gigassl.errors import SettingsError
from gigassl.vectors.grid_groups import grid_groups

SAME_SIZE = 0.02
"""Resolutions and tile sizes that differ by less (relative) count as equal."""


@dataclass(frozen=True, kw_only=True)
class TileStore:
    """Tiles of all slides, row behind row; each slide has one or more groups of rows.

    A group is one augmentation of a slide; plain bags have a single one. Compressed slides (bags on
    their grid) have one, or all eight turned variants; the first is the slide as it lies.

    Attributes:
        features: one row a tile, float16 or float32; may be memory-mapped, may lie on a GPU.
        coords: (x, y) of each tile, as stored (level-0 px, integers, or already µm).
        um_per_unit: what turns the coordinates of each slide into µm.
        first: first row of each group.
        count: number of rows of each group, at least one.
        slide_ids, patient_ids: one a slide.
        tile_um: side of a tile in µm.
        cells: (row, column) of each tile on its variant's grid; None but for compressed slides.
        shapes: rows and columns of the grid of each group; None as above.
    """

    features: Float[Tensor, "row dim"]
    coords: Shaped[Tensor, "row 2"]
    um_per_unit: Float32[Tensor, " slide"]
    first: Int64[Tensor, "slide augmentation"]
    count: Int64[Tensor, "slide augmentation"]
    slide_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    tile_um: float
    cells: Int32[Tensor, "row 2"] | None = None
    shapes: Int64[Tensor, "slide augmentation 2"] | None = None

    def __len__(self) -> int:
        return len(self.slide_ids)

    @property
    def dim(self) -> int:
        """Width of the tile features."""
        return self.features.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the tiles lie, and views are drawn."""
        return self.features.device

    @property
    def n_bytes(self) -> int:
        """Memory that features and coordinates need."""
        return sum(t.numel() * t.element_size() for t in (self.features, self.coords))

    def to(self, device: torch.device | str) -> "TileStore":
        """The whole store in the memory of a device."""
        moved = ("features", "coords", "um_per_unit", "first", "count", "cells", "shapes")
        found = {name: getattr(self, name) for name in moved}
        return replace(
            self, **{name: each.to(device) for name, each in found.items() if each is not None}
        )


def store_of_bags(
    bags: Sequence[Bag], *, patient_ids: Sequence[str], tile_um: float | None = None,
    on_grid: bool = False, features: Float16[Tensor, "row dim"] | None = None,
) -> TileStore:  # fmt: skip
    """A store of plain bags, ours or other tools': one group a slide, features in float16.

    Args:
        bags: one a slide, of one tile encoder at one resolution.
        patient_ids: one a bag.
        tile_um: side of a tile in µm where the bags do not say it.
        on_grid: a store of compressed slides: with cells, and with a group for each of the turned
            variants where the bags hold them.
        features: of all bags, where they lie in one tensor already (``FeatureSpool``).

    Raises:
        SettingsError: no bags, or one without µm/px or tile size, or of another tile encoder,
            width, resolution or tile size than the first; or too large for float16. On a grid:
            tiles that lie on none, or variants in some bags and not in others.
    """
    if not bags or len(bags) != len(patient_ids):
        raise SettingsError(
            f"a tile store wants bags and one patient each; "
            f"got {len(bags)} bags and {len(patient_ids)} patients"
        )
    sides = [_tile_um(bag, said=tile_um) for bag in bags]
    for bag, side in zip(bags, sides, strict=True):
        _refuse_other_kind(bags[0], bag)
        _refuse_other_size("tile sizes", (sides[0], side), slides=_names(bags[0], bag))
    groups = grid_groups(bags) if on_grid else None
    n_groups = 1 if groups is None else groups.shapes.shape[1]
    count = torch.tensor([len(bag) for bag in bags])[:, None].expand(-1, n_groups)
    if features is None:
        features = torch.from_numpy(np.concatenate([_rows(bag, n_groups) for bag in bags]))
    return TileStore(
        features=features,
        coords=torch.from_numpy(
            np.concatenate([bag.coords for bag in bags]) if groups is None else groups.coords
        ),
        um_per_unit=torch.tensor([bag.info.mpp_l0 for bag in bags], dtype=torch.float32),
        first=(count.flatten().cumsum(0) - count.flatten()).view(count.shape),
        count=count.contiguous(),
        slide_ids=tuple(bag.info.slide_id for bag in bags),
        patient_ids=tuple(patient_ids),
        tile_um=sides[0],
        cells=None if groups is None else torch.from_numpy(groups.cells),
        shapes=None if groups is None else torch.from_numpy(groups.shapes),
    )


def store_of_bank(bank: Bank) -> TileStore:
    """A store of an open bank: one group an augmentation; nothing is read, all stays on disk.

    See ``placed`` for bringing it into memory.

    Raises:
        SettingsError: the bank holds no slide.
    """
    if not bank.slides:
        raise SettingsError("the bank holds no slide: all of its cohort failed")
    _, n_augmentations, n_tiles, dim = bank.features.shape
    row = torch.tensor([slide.row for slide in bank.slides])
    first = (row[:, None] * n_augmentations + torch.arange(n_augmentations)) * n_tiles
    return TileStore(
        features=torch.from_numpy(bank.features.reshape(-1, dim)),
        coords=torch.from_numpy(bank.coords.reshape(-1, 2)),
        um_per_unit=torch.tensor([slide.um_per_px_l0 for slide in bank.slides]),
        first=first,
        count=torch.full_like(first, n_tiles),
        slide_ids=tuple(slide.slide_id for slide in bank.slides),
        patient_ids=tuple(slide.patient_id for slide in bank.slides),
        tile_um=bank.info.tile_um,
    )


def tile_mpp(bag: Bag) -> float | None:
    """Resolution of a bag's tiles in µm/px: what was asked for, else what they were read at.

    Slides of one magnification differ by some per cent in what they are read at; that is one kind.
    None where the bag's file says neither.
    """
    return bag.info.target_mpp or bag.info.effective_mpp


def tile_side_um(bag: Bag) -> float | None:
    """Side of a bag's tiles in µm, at ``tile_mpp``; None where its file does not say it."""
    info, mpp = bag.info, tile_mpp(bag)
    if info.tile_px and mpp:
        return info.tile_px * mpp
    return info.side_l0 * info.mpp_l0 if info.side_l0 and info.mpp_l0 else None


def _tile_um(bag: Bag, *, said: float | None) -> float:
    if bag.info.mpp_l0 is None:
        raise SettingsError(
            f"slide '{bag.info.slide_id}': its bag does not say the µm/px of its coordinates; "
            "give it in the cohort table (column mpp) or as --slide-mpp"
        )
    side = tile_side_um(bag) or said
    if side is None:
        raise SettingsError(
            f"slide '{bag.info.slide_id}': its bag does not say the size of its tiles; "
            "give the side in µm (tile_um)"
        )
    return side


def _refuse_other_kind(first: Bag, bag: Bag) -> None:
    facts = {
        "tile encoders": (first.info.encoder, bag.info.encoder),
        "tile encoder digests": (first.info.encoder_digest, bag.info.encoder_digest),
        "widths": (first.features.shape[1], bag.features.shape[1]),
    }
    for what, (ours, theirs) in facts.items():
        if ours != theirs:
            raise _differ(what, f"{ours}, {theirs}", slides=_names(first, bag))
    ours_mpp, theirs_mpp = tile_mpp(first), tile_mpp(bag)
    if ours_mpp and theirs_mpp:
        pair = (ours_mpp, theirs_mpp)
        _refuse_other_size("resolutions (µm/px)", pair, slides=_names(first, bag))


def _refuse_other_size(what: str, pair: tuple[float, float], *, slides: str) -> None:
    ours, theirs = pair
    if not same_size(ours, theirs):
        raise _differ(what, f"{ours:g}, {theirs:g}", slides=slides)


def same_size(first: float, second: float) -> bool:
    """Whether two resolutions or tile sizes count as equal.

    >>> same_size(0.5, 0.51), same_size(0.5, 0.511)
    (True, False)
    """
    return abs(second / first - 1) <= SAME_SIZE + 1e-9  # 0.51 is 2 % more than 0.5, and a hair


def _differ(what: str, values: str, *, slides: str) -> SettingsError:
    return SettingsError(
        f"the bags of {slides} have different {what} ({values}); use bags of one kind"
    )


def _names(first: Bag, other: Bag) -> str:
    return f"slides '{first.info.slide_id}' and '{other.info.slide_id}'"


def _rows(bag: Bag, n_groups: int) -> np.ndarray:
    """The features of all groups of a bag, one behind the other."""
    features = as_float16(bag)
    if n_groups == 1 or bag.variants is None:
        return features
    return np.concatenate([features, bag.variants.reshape(-1, features.shape[1])])


def as_float16(bag: Bag) -> Float16[np.ndarray, "tile dim"]:
    """The features of a bag in the precision of stores.

    Raises:
        SettingsError: they are too large for it.
    """
    with np.errstate(over="ignore"):
        features = bag.features.astype(np.float16, copy=False)
    if features is not bag.features and not np.isfinite(features).all():
        raise SettingsError(f"slide '{bag.info.slide_id}': features above 65504 do not fit float16")
    return features
