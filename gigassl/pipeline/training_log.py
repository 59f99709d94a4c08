"""The log of a training: one row an epoch in CSV and TensorBoard, a picture of it at the end."""

import csv
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from gigassl.files import machine_error, written_whole
from gigassl.vectors.pretrain.monitors import EpochRow, Geometry, Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch.utils.tensorboard.writer import SummaryWriter

TABLE, BOARD, PICTURE = "epochs.csv", "tensorboard", "curves.png"

_SHAPE = [f.name for f in fields(Geometry) if f.name != "n_slides"]
COLUMNS = ("epoch", "loss", "lr", "slides_per_s", *_SHAPE, "knn_accuracy")

PANELS: Mapping[str, str] = {
    "loss": "loss",
    "effective_rank": "effective rank (higher: more directions)",
    "collapse": "collapse level (1: all vectors one point)",
    "mean_cosine": "mean cosine between slides",
    "alignment": "alignment (0: views of a slide agree)",
    "uniformity": "uniformity (lower: slides spread out)",
    "knn_accuracy": "kNN accuracy, other patients",
    "lr": "learning rate",
    "slides_per_s": "slides/s",
}
"""Column → title of its panel in the picture."""


def values_of(row: EpochRow) -> dict[str, float]:
    """The numbers of an epoch by column; without labels there is no kNN accuracy."""
    flat = {
        "epoch": row.epoch, "loss": row.loss, "lr": row.lr, "slides_per_s": row.slides_per_s,
        "knn_accuracy": row.knn_accuracy,
    }  # fmt: skip
    found = {c: flat[c] if c in flat else getattr(row.geometry, c) for c in COLUMNS}
    return {column: value for column, value in found.items() if value is not None}


class TrainingLog(AbstractContextManager["TrainingLog"]):
    """Writes each epoch as it ends; a resumed training goes on below what it had.

    Args:
        folder: of ``epochs.csv``, ``tensorboard/`` and ``curves.png``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table, self.picture = folder / TABLE, folder / PICTURE
        self._board: SummaryWriter | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._board is not None:
            self._board.close()

    def started(self, plan: Plan) -> None:
        """Drops the rows of epochs that are done again."""
        kept = [row for row in read_rows(self.table) if row["epoch"] <= plan.epochs_done]
        with written_whole(self.table) as part, part.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows([_as_text(row) for row in kept])
        from torch.utils.tensorboard.writer import SummaryWriter

        self._board = SummaryWriter(
            str(self.folder / BOARD), purge_step=plan.epochs_done + 1, flush_secs=30
        )

    def step_done(self) -> None:
        """Nothing is written for a step."""

    def epoch_done(self, row: EpochRow) -> None:
        """Writes one row.

        Raises:
            MachineError: disk full.
        """
        values = values_of(row)
        try:
            with self.table.open("a", newline="") as handle:
                writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
                writer.writerow(_as_text(values))
            if self._board is not None:
                for column in COLUMNS[1:]:
                    if column in values:
                        self._board.add_scalar(column, values[column], row.epoch)
        except OSError as error:
            raise machine_error(error, doing=f"cannot write {self.table}") or error from error

    def draw(self) -> None:
        """Draws ``curves.png`` of all epochs so far.

        Raises:
            MachineError: it cannot be written.
        """
        save_curves(read_rows(self.table), self.picture)


def _as_text(values: Mapping[str, float]) -> dict[str, str]:
    return {k: str(int(v)) if k == "epoch" else f"{v:.6g}" for k, v in values.items()}


def read_rows(table: Path) -> Sequence[Mapping[str, float]]:
    """The epochs of a log, empty where there is none; columns without a value are left out."""
    if not table.is_file():
        return []
    with table.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    # a killed run may leave half of its last line
    whole = [row for row in rows if list(row) == list(COLUMNS) and row["slides_per_s"]]
    return [{k: float(v) for k, v in row.items() if v} for row in whole]


def save_curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Small multiples of an epoch log as PNG: one panel a column that has values."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [column for column in PANELS if any(column in row for row in rows)]
    if not shown:
        return
    figure = Figure(figsize=(10.5, 2.6 * -(-len(shown) // 3)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(-(-len(shown) // 3), 3, squeeze=False).flat
    for panel, column in zip(panels, shown, strict=False):
        _draw_panel(panel, rows, column=column)
    for panel in list(panels)[len(shown) :]:
        panel.set_visible(False)
    with written_whole(path) as part:
        figure.savefig(part, dpi=110, format="png", metadata={"Software": None})


def _draw_panel(panel: "Axes", rows: Sequence[Mapping[str, float]], *, column: str) -> None:
    points = [(row["epoch"], row[column]) for row in rows if column in row]
    epochs, values = zip(*points, strict=True)
    panel.plot(epochs, values, color="#22577a", linewidth=1.2, marker="." if len(rows) < 30 else "")
    panel.set_title(PANELS[column], fontsize=9, loc="left")
    panel.set_xlabel("epoch", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(visible=True, color="#dddddd", linewidth=0.5)
    last = values[-1]
    panel.annotate(
        f"{last:.3g}", (epochs[-1], last), xytext=(3, 3), textcoords="offset points", fontsize=8
    )
