"""The eight turned and mirrored variants of pixels, feature maps and cells: one convention.

Variant ``4 * mirror + quarter_turns``: first mirrored left to right where ``mirror`` is 1, then so
many quarter turns counter-clockwise. Variant 0 leaves everything as it is.
"""

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

N_VARIANTS = 8

Shape = tuple[int, int]
"""Rows and columns."""


def turned(
    images: Shaped[Tensor, "..."], variant: int, *, dims: tuple[int, int] = (-2, -1)
) -> Shaped[Tensor, "..."]:
    """A variant of images, feature maps or batches of them; new memory where it differs.

    Args:
        images: of any shape and type.
        variant: 0 to 7.
        dims: which axes are rows and columns.

    Raises:
        ValueError: no such variant.
    """
    mirror, quarters = _parts(variant)
    mirrored = images.flip(dims[1]) if mirror else images
    return torch.rot90(mirrored, quarters, dims) if quarters else mirrored


def turned_shape(shape: Shape, variant: int) -> Shape:
    """Rows and columns of a variant of something with ``shape``.

    >>> turned_shape((2, 3), 1), turned_shape((2, 3), 6)
    ((3, 2), (2, 3))
    """
    _, quarters = _parts(variant)
    return (shape[1], shape[0]) if quarters % 2 else shape


def turned_cells(
    cells: Int64[np.ndarray, "cell 2"], variant: int, *, shape: Shape
) -> Int64[np.ndarray, "cell 2"]:
    """Where cells of a grid come to lie in its variant: the pixel at a cell goes with it.

    Args:
        cells: (row, column) of each.
        variant: 0 to 7.
        shape: rows and columns of the grid before it is turned.

    Raises:
        ValueError: no such variant.
    """
    mirror, quarters = _parts(variant)
    (row, col), (n_rows, n_cols) = cells.T, shape
    if mirror:
        col = n_cols - 1 - col
    for _ in range(quarters):
        row, col = n_cols - 1 - col, row
        n_rows, n_cols = n_cols, n_rows
    return np.stack([row, col], axis=1)


def inverse(variant: int) -> int:
    """The variant that brings a variant back to what it was made of.

    >>> inverse(1), inverse(5)
    (3, 5)
    """
    mirror, quarters = _parts(variant)
    # a mirrored one undoes itself: turning it back and turning it on are the same behind a mirror
    return variant if mirror else -quarters % 4


def _parts(variant: int) -> tuple[int, int]:
    if not 0 <= variant < N_VARIANTS:
        raise ValueError(f"variants go from 0 to {N_VARIANTS - 1}; got {variant}")
    return divmod(variant, 4)
