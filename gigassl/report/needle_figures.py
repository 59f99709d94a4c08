"""Needle curves as a figure: test accuracy over the object-to-image ratio; and saliency maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from gigassl.evaluate.needles.curve import NeedlePoint
from gigassl.report.figures import new_figure, save_figure
from gigassl.report.learning_curves import COLOURS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CHANCE = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class NeedleView:
    """What is drawn of one image.

    Attributes:
        title: of the image.
        image: its pixels.
        corner: (row, col) of the needle's upper left pixel.
        digit_px: side of the needle.
        saliency: size of the gradient at each pixel.
        places: what the head says of each place.
    """

    title: str
    image: UInt8[np.ndarray, "side side"]
    corner: tuple[int, int]
    digit_px: int
    saliency: Float32[np.ndarray, "side side"]
    places: Float32[np.ndarray, "row col"]


def save_needle_curves(points: Sequence[NeedlePoint], stem: Path) -> tuple[Path, ...]:
    """Draws ``stem``.png and .svg: a panel for each number of training images.

    Lines are medians over seeds, bars reach from the lowest to the highest; dotted lines are the
    accuracy on the training images at the end, where they differ from the test's most.
    """
    sizes = sorted({point.train_size for point in points})
    variants = list(dict.fromkeys(point.variant for point in points))
    figure = new_figure(3.6 * len(sizes) + 1.6, 3.8)
    axes = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for axis, size in zip(axes, sizes, strict=True):
        _draw_size(axis, [point for point in points if point.train_size == size], variants)
        axis.set_title(f"{size} training images", fontsize=10, loc="left")
    axes[0].set_ylabel("accuracy, test images", fontsize=9)
    axes[-1].legend(
        fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2
    )
    n_seeds = len({point.seed for point in points})
    several = f"median of {n_seeds} seeds, bars from lowest to highest; "
    figure.supxlabel(
        ("" if n_seeds == 1 else several) + "faint: accuracy on the training images at the end",
        fontsize=8, color="#555555",
    )  # fmt: skip
    return save_figure(figure, stem)


def _draw_size(axis: "Axes", points: Sequence[NeedlePoint], variants: Sequence[str]) -> None:
    ratios = sorted({point.o2i for point in points}, reverse=True)
    for number, variant in enumerate(variants):
        own = [point for point in points if point.variant == variant]
        found = [[p for p in own if p.o2i == ratio] for ratio in ratios]
        x = np.array([ratio for ratio, at in zip(ratios, found, strict=True) if at])
        x = x * 1.03 ** (number - (len(variants) - 1) / 2)  # beside one another
        scores = [np.array([p.test.accuracy for p in at]) for at in found if at]
        colour = COLOURS[number % len(COLOURS)]
        axis.plot(
            x, [np.median(at) for at in scores], color=colour, label=variant, markersize=5,
            marker=MARKERS[number % len(MARKERS)], linewidth=1.6,
        )  # fmt: skip
        axis.vlines(x, [at.min() for at in scores], [at.max() for at in scores], color=colour)
        learned = [np.median([p.last_train_accuracy for p in at]) for at in found if at]
        axis.plot(x, learned, color=colour, linewidth=0.8, linestyle=":", alpha=0.6)
    axis.axhline(_CHANCE, color="#bbbbbb", linewidth=0.8, linestyle=":", zorder=0)
    axis.set_xscale("log")
    axis.invert_xaxis()
    axis.minorticks_off()
    axis.set_xticks(ratios, [f"{100 * ratio:.3g} %" for ratio in ratios])
    axis.set_xlabel("object-to-image ratio", fontsize=9)
    axis.set_ylim(0.45, 1.02)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, axis="y", color="#e5e5e5", linewidth=0.5)


def save_needle_views(views: Sequence[NeedleView], stem: Path) -> tuple[Path, ...]:
    """Draws ``stem``.png and .svg: image, saliency and places of each view, a row each."""
    figure = new_figure(7.2, 2.45 * len(views) + 0.3)
    axes = figure.subplots(len(views), 3, squeeze=False)
    for row, view in zip(axes, views, strict=True):
        side = len(view.image)
        whole = (-0.5, side - 0.5, side - 0.5, -0.5)
        row[0].imshow(view.image, cmap="gray", vmin=0, vmax=255)
        row[1].imshow(view.saliency, cmap="magma")
        most = float(np.abs(view.places).max()) or 1.0
        row[2].imshow(view.places, cmap="RdBu_r", vmin=-most, vmax=most, extent=whole)
        for axis in row:
            _outline(axis, view)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(view.title, fontsize=7)
    for axis, title in zip(
        axes[0], ("image, needle framed", "saliency (gradient)", "head at each place"), strict=True
    ):
        axis.set_title(title, fontsize=9, loc="left")
    return save_figure(figure, stem)


def _outline(axis: "Axes", view: NeedleView) -> None:
    from matplotlib.patches import Rectangle

    row, col = view.corner
    frame = Rectangle(
        (col - 0.5, row - 0.5), view.digit_px, view.digit_px, fill=False, edgecolor="#00c2a8",
        linewidth=1.0,
    )  # fmt: skip
    axis.add_patch(frame)
