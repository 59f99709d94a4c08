"""Slide: an open whole-slide image; the only module that knows OpenSlide."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import openslide
from jaxtyping import UInt8
from PIL import Image

from gigassl.errors import SlideError, Stage
from gigassl.files import MachineError, machine_error
from gigassl.slides.average import shrink_blockwise
from gigassl.slides.grid import SlideInfo
from gigassl.slides.refusal import why_not_a_slide
from gigassl.slides.resolution import Source, find_resolution
from gigassl.slides.tiff_claims import impossible_claim

# raster-order reads that straddle stored tiles find the previous row of tiles still decoded
_CACHE_BYTES = 128 << 20
_EDGE_BYTES = 1 << 20
# a picture of more pixels than this is believed only if the file has bytes enough for it: blank
# JPEG tiles hold some 100 px a byte, and our own painted slides, whose tiles share bytes, 2,500
_UNQUESTIONED_PX = 1 << 25
_MOST_PX_PER_BYTE = 20_000
_MOST_READ_PX_PER_BYTE = 1_000
_MOST_STRETCH, _TINY_LEVEL = 1.5, 8
# written by the rules of TIFF, unlike Hamamatsu's
_PLAIN_TIFF = frozenset({"aperio", "generic-tiff", "leica", "philips", "trestle", "ventana"})
_OF_SEVERAL_FILES = frozenset({".mrxs", ".vms", ".vmu", ".dcm"})


class Slide:
    """An open slide; a context manager whose reads may come from several threads at once.

    Attributes:
        path: the file.
        info: size, resolution (µm/px) and pyramid.
        mpp_source: who said the resolution.
        vendor: OpenSlide's name of the format.
        digest: 16 hex digits that name the slide's content, without its modification time.
        level_sizes: (width, height) of each pyramid level, px.
    """

    def __init__(
        self,
        path: Path,
        handle: openslide.OpenSlide,
        *,
        cohort_mpp: float | None = None,
        default_mpp: float | None = None,
    ) -> None:
        resolution = find_resolution(
            handle.properties, cohort_mpp=cohort_mpp, default_mpp=default_mpp
        )
        width_l0, height_l0 = handle.dimensions
        self.path = path
        self.info = SlideInfo(
            width_l0=width_l0,
            height_l0=height_l0,
            mpp=resolution.mpp,
            downsamples=tuple(handle.level_downsamples),
        )
        self.mpp_source: Source = resolution.source
        self.vendor = handle.properties[openslide.PROPERTY_NAME_VENDOR]
        self.digest = _digest(path, quickhash=handle.properties.get("openslide.quickhash-1"))
        self.level_sizes: tuple[tuple[int, int], ...] = tuple(handle.level_dimensions)
        colour = handle.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "ffffff")
        self._background = tuple(int(colour[i : i + 2], 16) for i in (0, 2, 4))
        self._handle = handle
        self._closed = False

    def read_region(
        self, x_l0: int, y_l0: int, *, level: int, width: int, height: int
    ) -> UInt8[np.ndarray, "row col 3"]:
        """Pixels of one region; where the slide holds no data, its background colour.

        Args:
            x_l0, y_l0: top-left corner in level-0 px.
            level: pyramid level to read.
            width, height: size in px of that level.

        Raises:
            SlideError: the stored pixels are damaged or truncated.
            MachineError: no file handles left.
        """
        try:
            rgba = self._handle.read_region((x_l0, y_l0), level, (width, height))
        except openslide.OpenSlideError as error:
            _raise_if_out_of_handles(self.path)
            raise SlideError(
                "its pixels cannot be read: the file is truncated or damaged; copy it again",
                stage="read",
                detail=str(error),
            ) from error
        pixels = np.asarray(rgba)
        if pixels[..., 3].min(initial=255) == 255:
            return np.ascontiguousarray(pixels[..., :3])
        background = Image.new("RGB", rgba.size, self._background)
        background.paste(rgba, mask=rgba)
        return np.array(background)

    def thumbnail(self, mpp: float) -> UInt8[np.ndarray, "row col 3"]:
        """The whole slide at about ``mpp`` µm/px (never enlarged), area-averaged block by block.

        Memory holds the thumbnail and one block, whatever the size of the slide.

        Raises:
            SlideError: the stored pixels are damaged or truncated, or far fewer than claimed.
        """
        info = self.info
        fine_enough = [i for i, d in enumerate(info.downsamples) if info.mpp * d <= mpp * 1.01]
        level = max(fine_enough, key=lambda i: info.downsamples[i], default=0)
        downsample = info.downsamples[level]
        level_width, level_height = self.level_sizes[level]
        _refuse_bomb(self.path, self.level_sizes[level], most_per_byte=_MOST_READ_PX_PER_BYTE)
        shrink = max(1.0, mpp / (info.mpp * downsample))

        def read(x: int, y: int, *, width: int, height: int) -> UInt8[np.ndarray, "row col 3"]:
            corner = round(x * downsample), round(y * downsample)
            return self.read_region(*corner, level=level, width=width, height=height)

        return shrink_blockwise(
            read,
            size=(level_width, level_height),
            out_size=(max(1, round(level_width / shrink)), max(1, round(level_height / shrink))),
        )

    def close(self) -> None:
        """Closes the file, once; reading afterwards is an error."""
        if not self._closed:
            self._closed = True
            self._handle.close()

    def __enter__(self) -> "Slide":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_slide(
    path: Path | str, *, cohort_mpp: float | None = None, default_mpp: float | None = None,
    cache_bytes: int = _CACHE_BYTES,
) -> Slide:  # fmt: skip
    """Opens a slide whose resolution is known.

    Args:
        path: anything OpenSlide opens.
        cohort_mpp: µm/px from the cohort table; overrides the file.
        default_mpp: µm/px for slides that do not say it themselves.
        cache_bytes: of decoded pixels that OpenSlide keeps for the next read.

    Raises:
        SlideError: missing, unreadable, empty, not a slide, damaged, or of unknown resolution.
        MachineError: no file handles left.
    """
    path = Path(path)
    handle = open_handle(path)
    try:
        _refuse_bomb(path, handle.dimensions, most_per_byte=_MOST_PX_PER_BYTE)
        _refuse_other_shapes(handle.level_dimensions)
        handle.set_cache(openslide.OpenSlideCache(cache_bytes))
        return Slide(path, handle, cohort_mpp=cohort_mpp, default_mpp=default_mpp)
    except BaseException:
        handle.close()
        raise


def library_version() -> str:
    """Version of the OpenSlide library."""
    return str(openslide.__library_version__)


def open_handle(path: Path) -> openslide.OpenSlide:
    """OpenSlide's own handle on a file, whether or not its resolution is known.

    Raises:
        SlideError: missing, unreadable, empty, not a slide, or damaged.
        MachineError: no file handles left.
    """
    _check_file(path)
    try:
        _refuse_claims(path, vendor=openslide.OpenSlide.detect_format(path))
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        _raise_if_out_of_handles(path)
        raise SlideError(why_not_a_slide(path), stage="open", detail=str(error)) from error
    except openslide.OpenSlideError as error:
        _raise_if_out_of_handles(path)
        raise SlideError(
            "the file is truncated or damaged; copy it again", stage="open", detail=str(error)
        ) from error


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as handle:
            empty = not handle.read(1)
    except OSError as error:
        raise _open_error(path, error) from error
    if empty:
        raise SlideError("the file is empty", stage="open")


def _open_error(path: Path, error: OSError) -> MachineError | SlideError:
    known = machine_error(error, doing=f"cannot open {path}")
    if known is not None:
        return known
    stage: Stage = "open"
    if isinstance(error, FileNotFoundError):
        return SlideError("the file does not exist", stage=stage)
    if isinstance(error, PermissionError):
        return SlideError("no permission to read the file", stage=stage)
    if isinstance(error, IsADirectoryError):
        return SlideError("it is a folder, not a slide", stage=stage)
    return SlideError("the file cannot be read", stage=stage, detail=error.strerror or str(error))


def _refuse_bomb(path: Path, size: tuple[int, int], *, most_per_byte: int) -> None:
    """Refuses a picture that would take hours and the memory to read, and cannot be in the file."""
    n_px = size[0] * size[1]
    if n_px <= _UNQUESTIONED_PX or path.suffix.lower() in _OF_SEVERAL_FILES:
        return
    n_bytes = path.stat().st_size
    if n_px > most_per_byte * n_bytes:
        raise SlideError(
            f"its header claims {size[0]:,} × {size[1]:,} px, which cannot be in a file of "
            f"{n_bytes:,} bytes: it is damaged; copy it again",
            stage="open",
        )


def _refuse_claims(path: Path, *, vendor: str | None) -> None:
    """Refuses what would make OpenSlide end the process, if only by opening it."""
    if vendor not in _PLAIN_TIFF:
        return
    claim = impossible_claim(path)
    if claim:
        raise SlideError(f"the file is damaged: {claim}; copy it again", stage="open")


def _refuse_other_shapes(sizes: Sequence[tuple[int, int]]) -> None:
    """Refuses a pyramid whose levels cannot show the same picture."""
    width, height = sizes[0]
    for level, (level_width, level_height) in enumerate(sizes):
        stretch = (width / level_width) / (height / level_height)
        # the sides of a tiny level are rounded
        if not 1 / _MOST_STRETCH <= stretch <= _MOST_STRETCH and min(sizes[level]) >= _TINY_LEVEL:
            raise SlideError(
                f"the file is damaged: level {level} of its pyramid has {level_width} × "
                f"{level_height} px, another shape than the slide ({width} × {height} px); copy it "
                "again",
                stage="open",
            )


def _raise_if_out_of_handles(path: Path) -> None:
    # OpenSlide reports any failed open as a bad file; its formats need up to a few handles at once
    with ExitStack() as stack:
        try:
            for _ in range(4):
                stack.enter_context(path.open("rb"))
        except OSError as error:
            known = machine_error(error, doing=f"cannot open {path}")
            if known is not None:
                raise known from error


def _digest(path: Path, *, quickhash: str | None) -> str:
    total = hashlib.sha256()
    with path.open("rb") as handle:
        size = handle.seek(0, os.SEEK_END)
        total.update(f"{size}|{quickhash}|".encode())
        if quickhash is None:
            handle.seek(0)
            total.update(handle.read(_EDGE_BYTES))
            handle.seek(max(0, size - _EDGE_BYTES))
            total.update(handle.read(_EDGE_BYTES))
    return total.hexdigest()[:16]
