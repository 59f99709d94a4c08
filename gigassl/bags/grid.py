"""Compressed slide: a bag on its grid is an image of features, and where to crop it.

Neural Image Compression (Tellez et al., IEEE TPAMI 43(2), 2021; arXiv 1811.02840).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float16, Float64, Int64
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from gigassl.bags.bag import Bag
from gigassl.bags.lattice import tile_cells
from gigassl.errors import SlideError
from gigassl.tiles.turns import turned_cells, turned_shape

MOST_CELLS = 100_000_000
"""Of a grid; more cannot be meant, and would not fit the memory."""


@dataclass(frozen=True, kw_only=True)
class CompressedSlide:
    """Tile features at the places of their tiles; zeros where no tile is.

    Attributes:
        slide_id: name of the slide.
        features: one vector a cell.
        kept: which cells hold a tile: zeros are a possible feature too.
        origin_l0: (x, y) of the top-left corner of cell (0, 0) of variant 0, level-0 px.
        step_l0: distance of neighbouring cells in level-0 px, not rounded.
        mpp_l0: level-0 resolution of the slide, µm/px; None where not known.
        step_px: distance of neighbouring cells in px of a tile; None where not known.
        variant: how slide and tiles were turned before encoding (``gigassl.tiles.turns``).
    """

    slide_id: str
    features: Float16[np.ndarray, "row col dim"]
    kept: Bool[np.ndarray, "row col"]
    origin_l0: tuple[float, float]
    step_l0: float
    mpp_l0: float | None = None
    step_px: int | None = None
    variant: int = 0

    @property
    def value_ratio(self) -> float | None:
        """Pixel values of a cell over values of its vector: 3 · S² / C, as published."""
        return value_ratio(step_px=self.step_px, dim=self.features.shape[2])

    @property
    def byte_ratio(self) -> float | None:
        """The same in bytes: pixels take one, features two."""
        return None if self.value_ratio is None else self.value_ratio / 2


def value_ratio(*, step_px: int | None, dim: int) -> float | None:
    """Values of the pixels of a cell over those of its vector; None where its size is not known.

    >>> value_ratio(step_px=128, dim=128)
    384.0
    """
    return None if step_px is None else 3 * step_px**2 / dim


def to_grid(bag: Bag, *, variant: int = 0) -> CompressedSlide:
    """Puts the features of a bag where its tiles lie.

    Args:
        bag: ours, or another tool's whose tiles lie on one grid.
        variant: 0 to 7; other than 0 only of bags that hold the variants
            (``gigassl encode --variants``), opened with them.

    Raises:
        SlideError: tiles overlap or lie on no grid, or the bag does not hold the variant.
    """
    if variant and bag.variants is None:
        raise SlideError(
            f"the bag of slide '{bag.info.slide_id}' holds no turned variants; make them with "
            "`gigassl encode --variants`, and open it with them",
            stage="bag",
        )
    found = tile_cells(bag)
    n_rows, n_cols = turned_shape(found.shape, variant)
    if n_rows * n_cols > MOST_CELLS:
        raise SlideError(f"its grid would have {n_rows} × {n_cols} cells", stage="grid")
    row, col = turned_cells(found.cells, variant, shape=found.shape).T
    features = bag.features if bag.variants is None or not variant else bag.variants[variant - 1]
    image = np.zeros((n_rows, n_cols, features.shape[1]), dtype=np.float16)
    kept = np.zeros((n_rows, n_cols), dtype=np.bool_)
    image[row, col], kept[row, col] = _as_float16(features), True
    return CompressedSlide(
        slide_id=bag.info.slide_id,
        features=image,
        kept=kept,
        origin_l0=found.origin_l0,
        step_l0=found.step_l0,
        mpp_l0=bag.info.mpp_l0,
        step_px=step_px(bag),
        variant=variant,
    )


def step_px(bag: Bag) -> int | None:
    """Distance of neighbouring tiles in px of a tile; None where the bag does not say it."""
    info = bag.info
    return None if info.tile_px is None else info.tile_px - (info.overlap_px or 0)


def _as_float16(features: np.ndarray) -> Float16[np.ndarray, "tile dim"]:
    with np.errstate(over="ignore"):
        half: Float16[np.ndarray, "tile dim"] = features.astype(np.float16, copy=False)
    if half is not features and not np.isfinite(half).all():
        raise SlideError("features above 65504 do not fit float16", stage="bag")
    return half


def distance_map(kept: Bool[Tensor, "row col"], *, power: int = 1) -> Float64[Tensor, "row col"]:
    """Chance of each cell to be the centre of a crop: as its distance to the background.

    What is outside of the slide counts as background.

    Args:
        kept: cells that hold a tile; at least one.
        power: 1 as in the paper; 2 as in the released code, which squares the distance.

    Returns:
        Chances that add up to one; 0 where no tile is.
    """
    framed = np.pad(kept.cpu().numpy(), 1)
    distance = distance_transform_edt(framed)[1:-1, 1:-1] ** power
    return torch.from_numpy(distance / distance.sum()).to(kept.device)


def crop_centres(
    chance: Float64[Tensor, "row col"], n: int, *, generator: torch.Generator
) -> Int64[Tensor, "{n} 2"]:
    """Draws centres of training crops: (row, column) of cells, with replacement.

    Args:
        chance: as ``distance_map`` gives it.
        n: how many.
        generator: of the chance's device.
    """
    upto = chance.flatten().cumsum(0)
    drawn = torch.rand(n, dtype=upto.dtype, device=upto.device, generator=generator) * upto[-1]
    # rounding may put a draw on the very end, behind the last cell with a chance
    cell = torch.searchsorted(upto, drawn, right=True).clamp(max=int((upto < upto[-1]).sum()))
    return torch.stack([cell // chance.shape[1], cell % chance.shape[1]], dim=1)


def spread_centres(kept: Bool[Tensor, "row col"], n: int) -> Int64[Tensor, "centre 2"]:
    """Centres of test crops, spread evenly over the tissue: no chance in it.

    The tissue is halved across its longer side, again and again, into ``n`` parts with equally many
    cells (but for one); of each, the cell nearest to its middle is taken.

    Args:
        kept: cells that hold a tile; at least one.
        n: how many; fewer where there are fewer cells.
    """
    cells = kept.nonzero().cpu().numpy()
    parts = _parts(cells, min(n, len(cells)))
    middles = np.stack([_middle(part) for part in parts])
    return torch.from_numpy(middles).to(kept.device)


def _parts(cells: Int64[np.ndarray, "cell 2"], n: int) -> list[np.ndarray]:
    if n == 1:
        return [cells]
    axis = int(np.ptp(cells, axis=0).argmax())
    order = np.lexsort((cells[:, 1 - axis], cells[:, axis]))
    border = len(cells) * (n // 2) // n
    first, second = cells[order[:border]], cells[order[border:]]
    return [*_parts(first, n // 2), *_parts(second, n - n // 2)]


def _middle(cells: Int64[np.ndarray, "cell 2"]) -> Int64[np.ndarray, " 2"]:
    nearest = int(((cells - cells.mean(axis=0)) ** 2).sum(axis=1).argmin())
    middle: Int64[np.ndarray, " 2"] = cells[nearest]
    return middle
