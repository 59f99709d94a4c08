"""The log of a training: rows in CSV and TensorBoard, and a picture of them at the end."""

import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gigassl.files import machine_error, written_whole
from gigassl.training.geometry import Geometry
from gigassl.training.monitors import LogRow, Quiet, TrainingPlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BOARD, PICTURE = "tensorboard", "curves.png"

_HELD_OUT = "held-out "
_SHAPE = tuple(f.name for f in fields(Geometry) if f.name != "n_rows")


@dataclass(frozen=True, kw_only=True)
class LogLayout:
    """What the log of a kind of training holds.

    Attributes:
        table: file name of its CSV.
        columns: of that; the first numbers the rows from 1. Each is an attribute of the row or of
            its geometry.
        axis: column that curves and TensorBoard are drawn over.
        panels: column → title of its panel in the picture.
    """

    table: str
    columns: tuple[str, ...]
    axis: str
    panels: Mapping[str, str]


def _panels(what: str, rate: str) -> dict[str, str]:
    return {
        "loss": "loss",
        "effective_rank": "effective rank (higher: more directions)",
        "collapse": "collapse level (1: all vectors one point)",
        "mean_cosine": f"mean cosine between {what}s",
        "alignment": f"alignment (0: views of a {what} agree)",
        "uniformity": f"uniformity (lower: {what}s spread out)",
        "knn_accuracy": "kNN accuracy, other patients",
        "lr": "learning rate",
        rate: f"{what}s/s",
    }


EPOCHS = LogLayout(
    table="epochs.csv",
    columns=("epoch", "loss", "lr", "slides_per_s", *_SHAPE, "knn_accuracy"),
    axis="epoch",
    panels=_panels("slide", "slides_per_s"),
)
"""The log of a slide encoder: one row an epoch."""

ROUNDS = LogLayout(
    table="rounds.csv",
    columns=(
        "round", "step", "epoch", "loss", "lr", "tiles_per_s", "waiting", *_SHAPE, "knn_accuracy",
        "validation", "n_unreadable",
    ),
    axis="step",
    panels={
        **_panels("tile", "tiles_per_s"),
        "validation": "measured on held-out tiles (lower is better)",
        "waiting": "share of the time spent waiting for tiles",
    },
)  # fmt: skip
"""The log of a tile encoder: one row a round of steps."""


def with_measured(layout: LogLayout, titles: Mapping[str, str]) -> LogLayout:
    """The layout with more columns: what is measured on held-out tiles, by what the row calls it.

    Args:
        titles: of the panels.
    """
    panels = {f"{_HELD_OUT}{name}": title for name, title in titles.items()}
    return replace(layout, columns=(*layout.columns, *panels), panels={**layout.panels, **panels})


def values_of(row: LogRow, layout: LogLayout = EPOCHS) -> dict[str, float]:
    """The numbers of a row by column; without labels there is no kNN accuracy."""
    found = {column: _value_of(row, column) for column in layout.columns}
    return {column: value for column, value in found.items() if value is not None}


def _value_of(row: LogRow, column: str) -> float | None:
    if column.startswith(_HELD_OUT):
        measured: Mapping[str, float] = getattr(row, "measured", {})
        return measured.get(column.removeprefix(_HELD_OUT))
    found: float | None = getattr(row.geometry if column in _SHAPE else row, column)
    return found


class TrainingLog(Quiet):
    """Writes each row as it comes; a resumed training goes on below what it had.

    Args:
        folder: of the table, ``tensorboard/`` and ``curves.png``.
        layout: which table.
    """

    def __init__(self, folder: Path, layout: LogLayout = EPOCHS) -> None:
        self.layout, self.table, self.picture = layout, folder / layout.table, folder / PICTURE
        self.board = folder / BOARD / f"events.out.tfevents.{Path(layout.table).stem}"

    def started(self, plan: TrainingPlan) -> None:
        """Keeps the rows of what is done, drops those of what will be done again.

        Raises:
            MachineError: disk full, or the folder cannot be written to.
        """
        number = self.layout.columns[0]
        kept = [row for row in self._rows() if row[number] <= plan.rows_done]
        with _told_in_a_sentence(self.board):
            self.board.parent.mkdir(exist_ok=True)
        for path, append in self._files():
            with written_whole(path) as part:
                part.touch()
                append(part, kept, layout=self.layout, anew=True)

    def row_done(self, row: LogRow) -> None:
        """Writes one row.

        Raises:
            MachineError: disk full.
        """
        for path, append in self._files():
            with _told_in_a_sentence(path):
                append(path, [values_of(row, self.layout)], layout=self.layout)

    def draw(self) -> None:
        """Draws ``curves.png`` of all rows so far.

        Raises:
            MachineError: it cannot be written.
        """
        save_curves(self._rows(), self.picture, layout=self.layout)

    def _rows(self) -> Sequence[Mapping[str, float]]:
        return read_rows(self.table, self.layout)

    def _files(self) -> tuple[tuple[Path, Callable[..., None]], ...]:
        return (self.table, _append_to_table), (self.board, _append_to_board)


def _append_to_table(
    path: Path, rows: Sequence[Mapping[str, float]], *, layout: LogLayout, anew: bool = False
) -> None:
    with path.open("a", newline="") as handle:
        writer = csv.DictWriter(handle, layout.columns, lineterminator="\n")
        if anew:
            writer.writeheader()
        writer.writerows([_as_text(row) for row in rows])


def _append_to_board(
    path: Path, rows: Sequence[Mapping[str, float]], *, layout: LogLayout, anew: bool = False
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
            if tag not in (layout.columns[0], layout.axis)
        ]
        events.append(
            Event(wall_time=time.time(), step=int(row[layout.axis]), summary=Summary(value=shown))
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
    return {k: str(v) if isinstance(v, int) else f"{v:.6g}" for k, v in values.items()}


def read_rows(table: Path, layout: LogLayout = EPOCHS) -> Sequence[Mapping[str, float]]:
    """The rows of a log, empty where there is none; columns without a value are left out."""
    if not table.is_file():
        return []
    # a killed run may leave half of its last line
    lines = [line for line in table.read_text().splitlines(keepends=True) if line.endswith("\n")]
    rows = [row for row in csv.DictReader(lines) if tuple(row) == layout.columns]
    return [{k: _as_number(v) for k, v in row.items() if v} for row in rows]


def _as_number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)


def save_curves(
    rows: Sequence[Mapping[str, float]], path: Path, *, layout: LogLayout = EPOCHS
) -> None:
    """Small multiples of a log as PNG: one panel a column that has values."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [column for column in layout.panels if any(column in row for row in rows)]
    if not shown:
        return
    figure = Figure(figsize=(10.5, 2.6 * -(-len(shown) // 3)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(-(-len(shown) // 3), 3, squeeze=False).flat
    for panel, column in zip(panels, shown, strict=False):
        _draw_panel(panel, rows, column=column, layout=layout)
    for panel in list(panels)[len(shown) :]:
        panel.set_visible(False)
    with written_whole(path) as part:
        figure.savefig(part, dpi=110, format="png", metadata={"Software": None})


def _draw_panel(
    panel: "Axes", rows: Sequence[Mapping[str, float]], *, column: str, layout: LogLayout
) -> None:
    points = [(row[layout.axis], row[column]) for row in rows if column in row]
    places, values = zip(*points, strict=True)
    panel.plot(places, values, color="#22577a", linewidth=1.2, marker="." if len(rows) < 30 else "")
    panel.set_title(layout.panels[column], fontsize=9, loc="left")
    panel.set_xlabel(layout.axis, fontsize=8)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(visible=True, color="#dddddd", linewidth=0.5)
    last = values[-1]
    panel.annotate(
        f"{last:.3g}", (places[-1], last), xytext=(3, 3), textcoords="offset points", fontsize=8
    )
