"""Writes grey images without loss: as tiled TIFF that OpenSlide opens, and as PNG."""

from pathlib import Path

import cv2
import numpy as np
import tifffile
from jaxtyping import Bool, UInt8
from PIL import Image

from gigassl.files import written_whole

_STORED_TILE_PX = 256
_FAST = 1  # of zlib's levels: black paper with white ink is small at any


def save_grey_slide(image: UInt8[np.ndarray, "row col"], path: Path, *, mpp: float) -> None:
    """Writes an image as a tiled TIFF of one level, with its resolution.

    Unlike JPEG it keeps every pixel: what is as small as digits of 8 px would suffer from it.

    Args:
        image: 0 black to 255 white.
        path: file to write; appears whole.
        mpp: µm/px.
    """
    px_per_cm = 1e4 / mpp
    with written_whole(path) as part:
        tifffile.imwrite(
            part, image, tile=(_STORED_TILE_PX, _STORED_TILE_PX), photometric="minisblack",
            compression="zlib", compressionargs={"level": _FAST}, metadata=None, software=False,
            resolution=(px_per_cm, px_per_cm), resolutionunit="CENTIMETER",
        )  # fmt: skip


def save_grey_png(image: UInt8[np.ndarray, "row col"], path: Path) -> None:
    """Writes an image as PNG; the file appears whole."""
    with written_whole(path) as part:
        encoded = cv2.imencode(".png", image)[1]
        part.write_bytes(encoded.tobytes())


def save_mask_png(mask: Bool[np.ndarray, "row col"], path: Path) -> None:
    """Writes a mask as PNG of one bit a pixel, white where it holds; the file appears whole."""
    with written_whole(path) as part:
        Image.fromarray(mask).save(part, "PNG")
