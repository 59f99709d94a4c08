"""Heatmap of a slide: scores of its tiles over its thumbnail, with a colour bar."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from gigassl.report.figures import new_figure, save_png
from gigassl.report.tile_map import TileMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHORT_SIDE_IN, _LONG_SIDE_IN = 2.6, 7.0
_OPACITY = 0.62


def save_heatmap(
    path: Path, tiles: TileMap, *, title: str, scale: str,
    thumbnail: UInt8[np.ndarray, "row col 3"] | None = None,
) -> None:  # fmt: skip
    """Writes a PNG: with a thumbnail the slide beside the heat on it, else the heat alone.

    Args:
        path: file to write.
        tiles: scores and places.
        title: above the picture; may have several lines.
        scale: what the colours mean, beside the colour bar.
        thumbnail: RGB picture of the whole slide.

    Raises:
        MachineError: it cannot be written.
    """
    n_panels = 1 if thumbnail is None else 2
    width, height = _panel_inches(tiles)
    # room for the colour bar, and for a title whatever the shape of the slide
    figure = new_figure(max(n_panels * width + 1.5, 6.4), height + 0.9)
    axes = figure.subplots(1, n_panels, squeeze=False)[0]
    if thumbnail is not None:
        _show(axes[0], tiles, thumbnail)
    _heat(axes[-1], tiles, thumbnail)
    _scale_bar(axes[0], tiles)
    _colour_bar(figure, tiles, scale)
    figure.suptitle(title, fontsize=8.5, x=0.012, ha="left")
    save_png(figure, path)


def _panel_inches(tiles: TileMap) -> tuple[float, float]:
    long, short = max(tiles.width_l0, tiles.height_l0), min(tiles.width_l0, tiles.height_l0)
    smaller = max(_SHORT_SIDE_IN, _LONG_SIDE_IN * short / long)
    across, down = _LONG_SIDE_IN, smaller
    if long == short:
        across = down = 5.2
    return (across, down) if tiles.width_l0 >= tiles.height_l0 else (down, across)


def _show(axis: "Axes", tiles: TileMap, picture: np.ndarray) -> None:
    axis.imshow(
        picture, extent=(0, tiles.width_l0, tiles.height_l0, 0), interpolation="antialiased"
    )
    axis.set_axis_off()


def _heat(axis: "Axes", tiles: TileMap, thumbnail: np.ndarray | None) -> None:
    if thumbnail is not None:
        grey = thumbnail.astype(np.float64).mean(axis=2, keepdims=True).repeat(3, axis=2)
        _show(axis, tiles, grey.astype(np.uint8))
    low, high = tiles.limits
    rows, cols = tiles.picture.shape
    axis.imshow(
        np.ma.masked_invalid(tiles.picture), cmap=tiles.colour_map, vmin=low, vmax=high,
        extent=(0, cols * tiles.l0_per_px, rows * tiles.l0_per_px, 0), interpolation="nearest",
        alpha=1.0 if thumbnail is None else _OPACITY,
    )  # fmt: skip
    axis.set_xlim(0, tiles.width_l0)
    axis.set_ylim(tiles.height_l0, 0)
    if thumbnail is None:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_facecolor("#f2f2f2")


def _scale_bar(axis: "Axes", tiles: TileMap) -> None:
    """A bar of a round length below the picture, about a fifth of its longer side."""
    from matplotlib.transforms import ScaledTranslation

    if tiles.mpp_l0 is None:
        return
    wished_um = max(tiles.width_l0, tiles.height_l0) * tiles.mpp_l0 / 5
    decade = 10.0 ** np.floor(np.log10(wished_um))
    length_um = max(step * decade for step in (1, 2, 5) if step * decade <= wished_um)
    end = length_um / tiles.mpp_l0 / tiles.width_l0
    label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    # so many inches below the picture, whatever its height
    below = axis.transAxes + ScaledTranslation(0, -0.1, axis.figure.dpi_scale_trans)
    axis.plot([0, end], [0, 0], transform=below, color="black", linewidth=3, clip_on=False,
              solid_capstyle="butt")  # fmt: skip
    lower = axis.transAxes + ScaledTranslation(0, -0.15, axis.figure.dpi_scale_trans)
    axis.text(0, 0, label, transform=lower, fontsize=7.5, va="top")


def _colour_bar(figure: "Figure", tiles: TileMap, scale: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(*tiles.limits), cmap=tiles.colour_map)
    bar = figure.colorbar(colours, ax=figure.axes, extend="both", fraction=0.045, pad=0.015)
    bar.set_label(scale, fontsize=8)
    bar.ax.tick_params(labelsize=7)
