"""What probes of tile encoders gave: one table, its files, and a figure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from gigassl.evaluate.comparison import CompareSettings, Comparison, compare
from gigassl.evaluate.pairs import Pair
from gigassl.evaluate.predictions import Predictions
from gigassl.evaluate.scores import MethodScores
from gigassl.files import written_whole
from gigassl.pipeline.evaluation import Question
from gigassl.pipeline.failures import Failure, failures_path
from gigassl.pipeline.image_encoders import Judged
from gigassl.report.encoder_table import EncoderRow, encoder_csv, encoder_grid, encoder_records
from gigassl.report.speed_plot import save_speed_plot
from gigassl.report.tables import Grid, grid_as_latex, grid_as_markdown, grid_as_text

LINEAR, KNN = "logistic", "knn"
_MEANING = (
    "AUC and accuracies: mean over test sets; AUC and balanced accuracy are of a logistic probe "
    "whose C the training folds choose; intervals are for such a probe trained anew on such a "
    "cohort (corrected resampled t; of fewer than three test sets the bootstrap)"
)
PREDICTIONS = "predictions.parquet"
"""Name of the file of predictions in the folder."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeTilesResult:
    """What probes of tile encoders gave.

    Attributes:
        out: the folder with all files.
        predictions: of both probes, for ``gigassl compare``.
        question: images, classes and folds.
        judged: encoders and controls.
        compare: how the table is made.
        failures: images left out, and why.
        notes: sentences on images, tiles, speed, and what encoders had seen.
    """

    out: Path
    predictions: Predictions
    question: Question
    judged: tuple[Judged, ...]
    compare: CompareSettings
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    interrupted: bool = False

    @cached_property
    def rows(self) -> tuple[EncoderRow, ...]:
        """The table; networks with random weights that were given by name stand there once."""
        linear, knn = self._linear, self._compared(KNN)
        by_name = _by_vectors(linear), _by_vectors(knn)
        pairs = _of_folds(linear.pairs)
        shown: dict[bytes, EncoderRow] = {}
        for each in sorted(self.judged, key=lambda each: bool(each.vectors.control)):
            scores, neighbours = (found[each.vectors.name] for found in by_name)
            row = _row(each, scores, neighbours, over_first=pairs.get(scores.method))
            shown.setdefault(each.vectors.vectors.tobytes(), row)
        return tuple(shown.values())

    @cached_property
    def grid(self) -> Grid:
        """The table as text cells."""
        task, inside = self.question.task, f"{1 - self.compare.alpha:.0%}"
        draws = {split.draw for split in self.question.splits}
        repeats = f", {len(draws)} repeats" if len(draws) > 1 else ""
        title = (
            f"{task.name}: {len(task)} images of {len(set(task.patient_ids))} groups, "
            f"{len(task.classes)} classes, {len(self.question.splits)} test sets{repeats}"
        )
        return encoder_grid(self.rows, title=title, inside=inside)

    @cached_property
    def all_notes(self) -> tuple[str, ...]:
        """What a reader must know, one sentence each."""
        first = next(each.title for each in self.judged)
        leaks = self.question.leaks.warnings()
        return (
            *self.question.notes, *self.notes,
            _MEANING,
            *([f"Δ first: AUC minus that of {first}, paired"] if len(self.rows) > 1 else []),
            *leaks, *self._linear.notes,
        )  # fmt: skip

    def sentence(self) -> str:
        """The table, notes, and where it all is."""
        encoded = [each for each in self.judged if each.found is not None]
        reused = sum(each.found is not None and each.found.reused for each in encoded)
        where = f"{self.out}: tables, figure, predictions ({len(encoded)} networks"
        where += f", features of {reused} from before)" if reused else ")"
        done = "\n\n".join([grid_as_text(self.grid), "\n".join(self.all_notes), where])
        if not self.failures:
            return done
        named = ", ".join(f"'{each.slide_id}'" for each in self.failures[:3])
        more = f" and {len(self.failures) - 3} more" if len(self.failures) > 3 else ""
        return (
            f"{done}\n{len(self.failures)} images were left out: {named}{more}; the reasons are in "
            f"{failures_path(self.out / PREDICTIONS)}"
        )

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        return {
            "out": str(self.out),
            "encoders": encoder_records(self.rows),
            "speed": {
                each.title: each.found.speed.said() for each in self.judged
                if each.found is not None
            },
            "encoded": [e.title for e in self.judged if e.found is not None and not e.found.reused],
            "reused": [e.title for e in self.judged if e.found is not None and e.found.reused],
            "rows": len(self.predictions),
            "failed": len(self.failures),
            "notes": list(self.all_notes),
        }  # fmt: skip

    def save(self) -> None:
        """Writes the table as text, Markdown, LaTeX, CSV and JSON, and the figure.

        Raises:
            MachineError: disk full, quota, read-only folder.
        """
        notes = "\n".join(f"- {note}" for note in self.all_notes)
        comments = "\n".join(f"% {note}" for note in self.all_notes)
        kept = {name: value for name, value in self.summary().items()
                if name not in {"out", "encoded", "reused"}}  # fmt: skip
        texts = {
            "encoders.txt": f"{grid_as_text(self.grid)}\n\n" + "\n".join(self.all_notes),
            "encoders.md": f"{grid_as_markdown(self.grid)}\n\n{notes}",
            "encoders.tex": f"{grid_as_latex(self.grid)}\n\n{comments}",
            "encoders.csv": encoder_csv(self.rows).rstrip("\n"),
            "encoders.json": json.dumps(kept, indent=2),
        }
        for name, text in texts.items():
            with written_whole(self.out / name) as part:
                part.write_text(f"{text}\n", encoding="utf-8")
        speeds = {each.found.speed.said() for each in self.judged if each.found is not None}
        conditions = speeds.pop() if len(speeds) == 1 else "conditions differ: see the notes"
        save_speed_plot(
            self.rows, self.out / "accuracy_speed", title=self.grid.title, conditions=conditions
        )

    @cached_property
    def _linear(self) -> Comparison:
        return self._compared(LINEAR)

    def _compared(self, probe: str) -> Comparison:
        data = self.predictions.data
        mine = data.filter(pc.ends_with(data["method"], f" · {probe}"))
        return compare([replace(self.predictions, data=mine)], settings=self.compare)


def _by_vectors(comparison: Comparison) -> Mapping[str, MethodScores]:
    (table,) = comparison.tables
    return {row.method.rpartition(" · ")[0]: row for row in table.rows}


def _of_folds(pairs: Sequence[Pair]) -> Mapping[str, Pair]:
    """By method, the first test: of the mean over test sets, as the scores are."""
    found: dict[str, Pair] = {}
    for pair in pairs:
        found.setdefault(pair.method, pair)
    return found


def _row(
    each: Judged, scores: MethodScores, neighbours: MethodScores, *, over_first: Pair | None
) -> EncoderRow:
    record = each.record
    return EncoderRow(
        name=each.title,
        control=each.vectors.control,
        width=int(each.vectors.vectors.shape[1]),
        mpp=None if record is None else record.mpp,
        licence="" if record is None or record.source == "random" else record.licence,
        auc=scores.scores["auc"],
        balanced_accuracy=scores.scores["balanced_accuracy"],
        knn=neighbours.scores["balanced_accuracy"],
        over_first=over_first,
        over_random=scores.deltas.get("random-weights"),
        tiles_per_s=None if each.found is None else each.found.speed.tiles_per_s,
        weight_bytes=each.weight_bytes,
    )
