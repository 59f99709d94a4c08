"""Mosaic of a compressed slide: every channel of its features as a small picture, in one PNG."""

import math
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from matplotlib import colormaps
from PIL import Image

from gigassl.bags.grid import CompressedSlide
from gigassl.files import written_whole

PERCENTILES = (3.0, 97.0)
"""Of a channel's values: what is below is as dark, what is above as bright as these."""

_SIDE_PX = 2400
_GAP_PX = 4
_WHITE = 255
_N_COLOURS = 256

Panel = UInt8[np.ndarray, "row col 3"]


def save_mosaic(slide: CompressedSlide, path: Path) -> None:
    """Writes all channels as one PNG, side by side in reading order; white where no tile is.

    Each channel is stretched from the 3rd to the 97th percentile of its values that are not zero,
    as Neural Image Compression shows its compressed slides (Tellez et al., arXiv 1811.02840).

    Raises:
        MachineError: it cannot be written.
    """
    _save(mosaic(slide), path)


def save_colours(slide: CompressedSlide, path: Path) -> None:
    """Writes one PNG: the first three principal components of the features as red, green, blue.

    Raises:
        MachineError: it cannot be written.
    """
    parts = components(slide.features[slide.kept])
    image = np.zeros((*slide.kept.shape, 3), dtype=np.float32)
    image[slide.kept] = parts
    levels = [_levels(image[..., part], kept=slide.kept) for part in range(3)]
    colours = np.stack([(each * _WHITE).astype(np.uint8) for each in levels], axis=2)
    colours[~slide.kept] = _WHITE
    _save(_resized(colours, times=_SIDE_PX / max(slide.kept.shape)), path)


def mosaic(slide: CompressedSlide) -> UInt8[np.ndarray, "height width 3"]:
    """The picture of all channels; its longer side is about 2,400 px."""
    n_channels = slide.features.shape[2]
    across = _columns(n_channels, shape=slide.kept.shape)
    down = math.ceil(n_channels / across)
    times = min(
        (_SIDE_PX / panels - _GAP_PX) / cells
        for panels, cells in zip((down, across), slide.kept.shape, strict=True)
    )
    panels = [
        _resized(_coloured(slide.features[..., channel], kept=slide.kept), times=times)
        for channel in range(n_channels)
    ]
    height, width = (size + _GAP_PX for size in panels[0].shape[:2])
    picture = np.full((down * height + _GAP_PX, across * width + _GAP_PX, 3), 128, np.uint8)
    for number, panel in enumerate(panels):
        row, col = divmod(number, across)
        top, left = row * height + _GAP_PX, col * width + _GAP_PX
        picture[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return picture


def components(features: Float[np.ndarray, "tile dim"]) -> Float32[np.ndarray, "tile 3"]:
    """Scores of the tiles on the first three principal components; zeros where there are fewer."""
    centred = features.astype(np.float32) - features.astype(np.float32).mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :3]
    # the sign of a component is arbitrary: that of its greatest weight decides, on every machine
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    found = np.zeros((len(features), 3), dtype=np.float32)
    found[:, : axes.shape[1]] = centred @ axes
    return found


def _columns(n_channels: int, *, shape: tuple[int, ...]) -> int:
    """So many panels side by side that the picture is about square."""
    n_rows, n_cols = shape
    return min(n_channels, max(1, round(math.sqrt(n_channels * n_rows / n_cols))))


def _levels(
    values: Float[np.ndarray, "row col"], *, kept: Bool[np.ndarray, "row col"]
) -> Float32[np.ndarray, "row col"]:
    """Values brought to 0 … 1; one half where they are all alike."""
    said = values[kept & (values != 0)].astype(np.float32)
    if not said.size:
        return np.zeros(values.shape, dtype=np.float32)
    low, high = np.percentile(said, PERCENTILES).tolist()
    if high <= low:
        return np.full(values.shape, 0.5, dtype=np.float32)
    stretched = (values.astype(np.float32) - low) / (high - low)
    levels: Float32[np.ndarray, "row col"] = np.clip(stretched, 0.0, 1.0)
    return levels


def _coloured(values: Float[np.ndarray, "row col"], *, kept: Bool[np.ndarray, "row col"]) -> Panel:
    colours = np.array(colormaps["viridis"].colors)[:, :3]  # type: ignore[attr-defined]
    step = np.rint(_levels(values, kept=kept) * (_N_COLOURS - 1)).astype(np.int64)
    panel = np.rint(colours[step] * _WHITE).astype(np.uint8)
    panel[~kept] = _WHITE
    found: Panel = panel
    return found


def _resized(image: Panel, *, times: float) -> UInt8[np.ndarray, "new_row new_col 3"]:
    """Cells become squares of whole pixels; where they are too many, a pixel averages several."""
    rows, cols = image.shape[:2]
    if times >= 1:
        whole = round(times)
        return image.repeat(whole, axis=0).repeat(whole, axis=1)
    size = (max(1, round(cols * times)), max(1, round(rows * times)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _save(picture: UInt8[np.ndarray, "height width 3"], path: Path) -> None:
    with written_whole(path) as part:
        Image.fromarray(picture).save(part, "PNG")
