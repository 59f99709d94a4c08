"""Area averaging: each pixel of a shrunk image is the mean of the area that it covers."""

from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float32, UInt8


@runtime_checkable
class ReadBlock(Protocol):
    """Reads a block of an image, all in px."""

    def __call__(
        self, x: int, y: int, *, width: int, height: int
    ) -> UInt8[np.ndarray, "row col 3"]:
        """The pixels of one block."""
        ...


def resize_square(
    region: UInt8[np.ndarray, "row col 3"], *, out: UInt8[np.ndarray, "side side 3"]
) -> None:
    """Writes ``region`` into ``out``: area-averaged where it shrinks, cubic where it grows."""
    shrinks = region.shape[0] >= out.shape[0]
    result = cv2.resize(
        region,
        (out.shape[1], out.shape[0]),
        dst=out,
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
    )
    assert np.shares_memory(result, out)


def shrink_blockwise(
    read: ReadBlock,
    *,
    size: tuple[int, int],
    out_size: tuple[int, int],
    block_px: int = 2048,
) -> UInt8[np.ndarray, "row col 3"]:
    """Shrinks an image of any size to ``out_size`` (width, height), holding one block at a time.

    Every output pixel is the exact mean of the area it covers, fractions of pixels included.
    """
    (width, height), (out_width, out_height) = size, out_size
    thumbnail = np.empty((out_height, out_width, 3), np.uint8)
    for y0, y1 in _bands(out_height, shrink=height / out_height, block_px=block_px):
        rows, top = _weights(y0, y1, shrink=height / out_height, length=height)
        for x0, x1 in _bands(out_width, shrink=width / out_width, block_px=block_px):
            cols, left = _weights(x0, x1, shrink=width / out_width, length=width)
            block = read(left, top, width=cols.shape[1], height=rows.shape[1]).astype(np.float32)
            narrow = rows @ block.reshape(rows.shape[1], -1)
            narrow = narrow.reshape(len(rows), cols.shape[1], 3)
            mean = np.einsum("xc,yck->yxk", cols, narrow, optimize=True)
            thumbnail[y0:y1, x0:x1] = np.rint(mean).clip(0, 255)
    return thumbnail


def _bands(out_length: int, *, shrink: float, block_px: int) -> list[tuple[int, int]]:
    step = max(1, int(block_px / shrink))
    return [(start, min(start + step, out_length)) for start in range(0, out_length, step)]


def _weights(
    start: int, stop: int, *, shrink: float, length: int
) -> tuple[Float32[np.ndarray, "out source"], int]:
    """How much each source pixel counts in output pixels start..stop; the first source pixel."""
    edges = np.arange(start, stop + 1) * shrink
    first = int(edges[0])
    last = min(length, max(first + 1, int(np.ceil(edges[-1] - 1e-9))))
    pixels = np.arange(first, last)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = overlap.clip(0, 1)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32), first
