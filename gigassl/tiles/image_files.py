"""Plain image files (PNG, JPEG, TIFF …) as RGB bytes."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from gigassl.errors import SlideError
from gigassl.files import machine_error

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Endings of what counts as an image; a slide is opened by the slide reader instead."""

_EIGHT_BITS = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"}


def image_files_below(folder: Path) -> list[Path]:
    """Image files below a folder, sorted; hidden ones left out."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]


def read_rgb(path: Path) -> UInt8[np.ndarray, "row col 3"]:
    """The pixels of an image file; transparency is dropped.

    Raises:
        SlideError: missing, damaged, cut off, or not of 8 bits a channel.
        MachineError: no file handles left.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in _EIGHT_BITS:
                raise SlideError(
                    f"its pixels are of mode {image.mode}; save it with 8 bits a channel",
                    stage="read",
                )
            return np.array(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise SlideError("it is not an image, or damaged", stage="open") from error
    except OSError as error:
        known = machine_error(error, doing=f"cannot open {path}")
        if known is not None:
            raise known from error
        said = error.strerror or str(error)
        raise SlideError("it cannot be read", stage="read", detail=said) from error
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SlideError("it cannot be read", stage="read", detail=str(error)) from error
