"""Needle curves: a grid of trainings, each kept when done, then tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gigassl.digests import plain
from gigassl.evaluate.needles.curve import (
    NeedleCell,
    NeedleCurveSettings,
    NeedlePoint,
    median_point,
    run_cell,
)
from gigassl.evaluate.needles.network import NeedleNetwork
from gigassl.evaluate.needles.saliency import needle_places, needle_saliency, share_inside
from gigassl.evaluate.needles.training import needle_logits
from gigassl.pipeline.needle_parts import NeedleParts, load_needle_network, save_json, without_nan
from gigassl.pipeline.output import claimed, make_folder
from gigassl.pipeline.progress import Progress, Silent
from gigassl.pipeline.synth import digest_of_digits, save_rows
from gigassl.pipeline.synth_needles import needle_digits
from gigassl.report.needle_figures import NeedleView, save_needle_curves, save_needle_views
from gigassl.slides.digits import Digits, read_digits
from gigassl.slides.needles import NeedleImages, draw_needles

CURVE, SALIENCY, CELLS = "curve", "saliency", "cells"


@dataclass(frozen=True, kw_only=True)
class NeedleCurveResult:
    """How a needle curve ended.

    Attributes:
        out: its folder.
        points: one a finished training.
        n_cells: trainings of the grid.
        n_new: done now; the others were found from before.
    """

    out: Path
    points: tuple[NeedlePoint, ...]
    n_cells: int
    n_new: int

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before its end; what was done is kept."""
        return len(self.points) < self.n_cells

    @property
    def failures(self) -> Sequence[object]:
        """None: a training that fails stops the run."""
        return ()

    def sentence(self) -> str:
        """What happened, for people."""
        done = f"{len(self.points)} of {self.n_cells} trainings"
        if self.interrupted:
            return f"interrupted after {done}; give the same command again to go on"
        width = max(len(point.variant) for point in self.points)
        lines = [f"{'variant':{width}} {'O2I':>7} {'images':>7} {'test':>6} {'train':>6}"]
        lines += [
            f"{point.variant:{width}} {100 * point.o2i:6.2f}% {point.train_size:7} "
            f"{point.test.accuracy:6.3f} {point.last_train_accuracy:6.3f}"
            for point in medians(self.points)
        ]
        table = "\n".join(lines)
        return (
            f"{done} ({self.n_cells - self.n_new} from before); accuracy, median of seeds:\n\n"
            f"{table}\n\nlook at: {self.out / CURVE}.png and {self.out / SALIENCY}.png"
        )

    def summary(self) -> dict[str, Any]:
        """What happened, for machines."""
        return {
            "out": str(self.out),
            "interrupted": self.interrupted,
            "trainings": self.n_cells,
            "trainings_new": self.n_new,
            "medians": [without_nan(asdict(point)) for point in medians(self.points)],
        }


def needle_curve(
    out: Path, *, settings: NeedleCurveSettings | None = None, digits: Path | None = None,
    progress: Progress | None = None,
) -> NeedleCurveResult:  # fmt: skip
    """Trains networks over sizes of the needle and numbers of images, and draws what came of it.

    In ``out``: ``curve.csv`` (a row a training), ``curve.json`` (settings and rows), ``curve.png``
    and ``saliency.png`` (both also as .svg), and ``cells/`` with point and network of each
    training: a run that was stopped goes on, and a larger grid keeps what it has in common.

    Args:
        out: folder of the results.
        settings: the grid.
        digits: folder of digits as of ``read_digits``; None for those of scikit-learn.
        progress: told of each training.

    Raises:
        SettingsError: digits that cannot be read.
        BusyError: another run writes there.
        GigasslError: the loss of a network became infinite.
    """
    settings = settings or NeedleCurveSettings()
    sets = read_digits(digits)
    own = needle_digits(sets)
    make_folder(out)
    with claimed(out / CELLS):
        parts = NeedleParts(folder=out / CELLS, digits=digest_of_digits(sets))
        make_folder(parts.folder)
        cells = list(settings.cells())
        points, n_new = _run_all(cells, parts, digits=own, progress=progress or Silent())
        result = NeedleCurveResult(out=out, points=tuple(points), n_cells=len(cells), n_new=n_new)
        if not result.interrupted:
            _save(result, settings)
            views = [
                _view(cell, point, network=load_needle_network(parts.weights(cell)),
                      test=_test_images(cell, own))
                for cell, point in _best_of_each_canvas(cells, points)
            ]  # fmt: skip
            save_needle_views(views, out / SALIENCY)
    return result


def medians(points: Sequence[NeedlePoint]) -> list[NeedlePoint]:
    """Of the seeds of each cell the one in the middle, in the order of the grid."""
    groups: dict[tuple[str, int, int], list[NeedlePoint]] = {}
    for point in points:
        groups.setdefault((point.variant, point.canvas_px, point.train_size), []).append(point)
    return [median_point(group) for group in groups.values()]


def _run_all(
    cells: Sequence[NeedleCell], parts: NeedleParts, *, digits: Mapping[str, Digits],
    progress: Progress,
) -> tuple[list[NeedlePoint], int]:  # fmt: skip
    """Points of all cells, or of those before the user's stop; how many are new."""
    points, n_new = [], 0
    progress.started(sum(parts.found(cell) is None for cell in cells))
    try:
        for cell in cells:
            point = parts.found(cell)
            if point is None:
                point, fitted = run_cell(cell, digits)
                parts.commit(cell, point, fitted)
                n_new += 1
                progress.slide_done(cell.title, failed=False)
            points.append(point)
    except KeyboardInterrupt:
        pass  # the result says that cells are missing
    return points, n_new


def _save(result: NeedleCurveResult, settings: NeedleCurveSettings) -> None:
    """Table, record and curve."""
    points = [without_nan(asdict(point)) for point in result.points]
    save_rows([_flat(point) for point in points], result.out / f"{CURVE}.csv")
    record = {"settings": plain(settings), "points": points}
    save_json(record, result.out / f"{CURVE}.json")
    save_needle_curves(result.points, result.out / CURVE)


def _flat(point: Mapping[str, Any]) -> dict[str, Any]:
    """Scores in columns of their own: test_accuracy and so on."""
    flat: dict[str, Any] = {}
    for name, value in point.items():
        inner = value.items() if isinstance(value, dict) else ()
        flat |= {f"{name}_{key}": number for key, number in inner} or {name: value}
    return flat


def _best_of_each_canvas(
    cells: Sequence[NeedleCell], points: Sequence[NeedlePoint]
) -> list[tuple[NeedleCell, NeedlePoint]]:
    best: dict[int, tuple[NeedleCell, NeedlePoint]] = {}
    for cell, point in zip(cells, points, strict=True):
        known = best.get(point.canvas_px)
        if known is None or point.test.accuracy > known[1].test.accuracy:
            best[point.canvas_px] = (cell, point)
    return list(best.values())


def _test_images(cell: NeedleCell, digits: Mapping[str, Digits]) -> NeedleImages:
    return draw_needles(
        cell.images, digits["test"], n=cell.test, seed=cell.training.seed,
        first=cell.first_held_out + cell.validation,
    )  # fmt: skip


def _view(
    cell: NeedleCell, point: NeedlePoint, *, network: NeedleNetwork, test: NeedleImages
) -> NeedleView:
    """The image with a needle of which the network is neither more nor less sure than usual."""
    positive = np.flatnonzero(test.labels == 1)
    logits = needle_logits(network, test.images[positive])
    order = np.argsort((logits[:, 1] - logits[:, 0]).numpy(), kind="stable")
    shown = positive[order[len(order) // 2]]
    image = test.images[shown : shown + 1]
    row, col = test.corners[shown].tolist()
    saliency = needle_saliency(network, image)
    inside = float(share_inside(saliency, test.masks[shown : shown + 1])[0])
    return NeedleView(
        title=f"{cell.variant.name}, O2I {100 * point.o2i:.3g} %\n"
        f"test accuracy {point.test.accuracy:.2f}, {inside:.0%} of saliency inside",
        image=image[0],
        corner=(row, col),
        digit_px=test.digit_px,
        saliency=saliency[0],
        places=needle_places(network, image)[0],
    )
