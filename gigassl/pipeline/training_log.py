"""The log of a training: one row an epoch in CSV and TensorBoard, a picture of it at the end."""

import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from gigassl.files import machine_error, written_whole
from gigassl.training.geometry import Geometry
from gigassl.vectors.pretrain.monitors import EpochRow, Monitor, Plan, Quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, BOARD, PICTURE = "epochs.csv", "tensorboard", "curves.png"

_SHAPE = [f.name for f in fields(Geometry) if f.name != "n_rows"]
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


class TrainingLog(Quiet):
    """Writes each epoch as it ends; a resumed training goes on below what it had.

    Args:
        folder: of ``epochs.csv``, ``tensorboard/`` and ``curves.png``.
    """

    def __init__(self, folder: Path) -> None:
        self.table, self.picture = folder / TABLE, folder / PICTURE
        self.board = folder / BOARD / "events.out.tfevents.epochs"

    def started(self, plan: Plan) -> None:
        """Keeps the rows of epochs that are done, drops those that will be done again.

        Raises:
            MachineError: disk full, or the folder cannot be written to.
        """
        kept = [row for row in read_rows(self.table) if row["epoch"] <= plan.epochs_done]
        with _told_in_a_sentence(self.board):
            self.board.parent.mkdir(exist_ok=True)
        for path in (self.table, self.board):
            with written_whole(path) as part:
                part.touch()
                append = _append_to_table if path == self.table else _append_to_board
                append(part, kept, anew=True)

    def epoch_done(self, row: EpochRow) -> None:
        """Writes one row.

        Raises:
            MachineError: disk full.
        """
        for path, append in ((self.table, _append_to_table), (self.board, _append_to_board)):
            with _told_in_a_sentence(path):
                append(path, [values_of(row)])

    def draw(self) -> None:
        """Draws ``curves.png`` of all epochs so far.

        Raises:
            MachineError: it cannot be written.
        """
        save_curves(read_rows(self.table), self.picture)


def _append_to_table(
    path: Path, rows: Sequence[Mapping[str, float]], *, anew: bool = False
) -> None:
    with path.open("a", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        if anew:
            writer.writeheader()
        writer.writerows([_as_text(row) for row in rows])


def _append_to_board(
    path: Path, rows: Sequence[Mapping[str, float]], *, anew: bool = False
) -> None:
    """Adds rows to TensorBoard's file, here and now.

    Its own writer does so in a thread, whose errors come late and with a traceback.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    events = [Event(wall_time=time.time(), file_version="brain.Event:2")] if anew else []
    for row in rows:
        shown = [
            Summary.Value(tag=tag, simple_value=number)
            for tag, number in row.items()
            if tag != "epoch"
        ]
        events.append(
            Event(wall_time=time.time(), step=int(row["epoch"]), summary=Summary(value=shown))
        )
    with path.open("ab") as handle:
        writer = RecordWriter(handle)
        for event in events:
            writer.write(event.SerializeToString())


@contextmanager
def _told_in_a_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise machine_error(error, doing=f"cannot write {path}") or error from error


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


class BothMonitors(Quiet):
    """Tells two monitors the same."""

    def __init__(self, *monitors: Monitor) -> None:
        self.monitors = monitors

    def started(self, plan: Plan) -> None:
        """Tells both of the start."""
        for monitor in self.monitors:
            monitor.started(plan)

    def step_done(self) -> None:
        """Tells both of a step."""
        for monitor in self.monitors:
            monitor.step_done()

    def epoch_done(self, row: EpochRow) -> None:
        """Tells both of an epoch."""
        for monitor in self.monitors:
            monitor.epoch_done(row)
