"""Table and figure of a study of task subsets."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gigassl.evaluate.task_subsets import SubsetRun, count_merit, scores_by_count, task_merit
from gigassl.report.figures import new_figure, save_figure
from gigassl.report.tables import MISSING, Grid, number, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RUN, _MEAN, _CONTROL = "#0072b2", "#d55e00", "#777777"


def subset_grids(runs: Sequence[SubsetRun], *, title: str, score: str) -> tuple[Grid, Grid, Grid]:
    """Every run, best first; the runs by number of tasks; what each task is worth.

    Args:
        title: what stands above.
        score: what scores are called ("Spearman").
    """
    ordered = sorted(runs, key=lambda run: (-run.score, len(run.tasks), sorted(run.tasks)))
    each = Grid(
        title=title,
        header=("tasks", "number", score),
        rows=tuple((_named(run), str(len(run.tasks)), number(run.score)) for run in ordered),
    )
    counts = Grid(
        title=f"{title}: by number of tasks (rank correlation {signed(count_merit(runs))})",
        header=("tasks", "runs", f"mean {score}", "sd"),
        rows=tuple(
            (str(row.n_tasks), str(row.n_runs), number(row.mean), _or_missing(row.sd))
            for row in scores_by_count(runs)
        ),
    )
    merits = Grid(
        title=f"{title}: rank correlation of having a task with the score",
        header=("task", "correlation"),
        rows=tuple((task, _signed_or_missing(v)) for task, v in task_merit(runs).items()),
    )
    return each, counts, merits


def save_subset_figure(
    runs: Sequence[SubsetRun], stem: Path, *, title: str, score: str,
    controls: Mapping[str, float] | None = None,
) -> tuple[Path, ...]:  # fmt: skip
    """Draws ``stem``.png and ``stem``.svg: scores by number of tasks, and what each task is worth.

    Args:
        runs: encoders by the tasks that they were trained on.
        stem: of the files.
        title: what stands above.
        score: what scores are called.
        controls: name → score of what was trained on no task; lines across.

    Raises:
        MachineError: they cannot be written.
    """
    figure = new_figure(9.6, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    _draw_counts(left, runs)
    for name, value in (controls or {}).items():
        left.axhline(value, color=_CONTROL, linewidth=1, linestyle="--", zorder=0)
        left.annotate(
            name, (0, value), xytext=(3, 2), textcoords="offset points", fontsize=7,
            color=_CONTROL, xycoords=("axes fraction", "data"),
        )  # fmt: skip
    left.set_xlabel("tasks trained on", fontsize=8)
    left.set_ylabel(score, fontsize=8)
    left.set_title(title, fontsize=9, loc="left")
    _draw_merits(right, task_merit(runs))
    for axis in (left, right):
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(visible=True, color="#e5e5e5", linewidth=0.5)
        axis.set_axisbelow(True)
    return save_figure(figure, stem)


def _draw_counts(axis: "Axes", runs: Sequence[SubsetRun]) -> None:
    means = scores_by_count(runs)
    axis.plot(
        [row.n_tasks for row in means], [row.mean for row in means], color=_MEAN, linewidth=1.4,
        label="mean",
    )  # fmt: skip
    for row in means:
        alike = [run for run in runs if len(run.tasks) == row.n_tasks]
        axis.plot([row.n_tasks] * len(alike), [run.score for run in alike], "o", color=_RUN, ms=4)
    best = max(runs, key=lambda run: run.score)
    axis.annotate(
        f"best: {_named(best)}", (len(best.tasks), best.score), xytext=(6, 4),
        textcoords="offset points", fontsize=7, color=_RUN,
    )  # fmt: skip
    axis.set_xticks([row.n_tasks for row in means])
    axis.set_xlim(means[0].n_tasks - 0.4, means[-1].n_tasks + 0.8)
    axis.legend(fontsize=7, frameon=False, loc="lower right")


def _draw_merits(axis: "Axes", merits: Mapping[str, float]) -> None:
    known = {task: merit for task, merit in merits.items() if not math.isnan(merit)}
    axis.barh(list(known), list(known.values()), color=_RUN, height=0.5)
    axis.axvline(0.0, color=_CONTROL, linewidth=1)
    axis.invert_yaxis()
    axis.set_xlim(-1, 1)
    axis.set_xticks([-1, -0.5, 0, 0.5, 1])
    axis.set_xlabel("rank correlation of having the task with the score", fontsize=8)


def _named(run: SubsetRun) -> str:
    return " + ".join(sorted(run.tasks))


def _or_missing(value: float) -> str:
    return MISSING if math.isnan(value) else number(value)


def _signed_or_missing(value: float) -> str:
    return MISSING if math.isnan(value) else signed(value)
