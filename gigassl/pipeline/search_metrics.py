"""Retrieval metrics of a table: every slide searched for among those of other patients."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gigassl.evaluate.bootstrap import BootstrapSettings
from gigassl.evaluate.labels import read_label_table, some
from gigassl.evaluate.retrieval import Archive
from gigassl.evaluate.retrieval_scores import BALANCED, Retrieval, RetrievalScore, retrieval_scores
from gigassl.evaluate.targets import NO_VECTOR, LabelledSlides, TargetSettings, labelled_slides
from gigassl.evaluate.task import Task
from gigassl.files import written_whole
from gigassl.pipeline.output import claimed
from gigassl.pipeline.search_columns import search_columns
from gigassl.pipeline.search_result import refuse_suffix
from gigassl.report.tables import Grid, grid_as_text, number
from gigassl.vectors.table import SlideTable, open_table

TITLES = {
    "precision": "precision", "map": "mAP", "majority": "mMV", BALANCED: "mMV, balanced",
    "top": "top",
}  # fmt: skip
KS = (1, 3, 5, 10)


@dataclass(frozen=True, kw_only=True)
class RetrievalOptions:
    """What is measured.

    Attributes:
        labels: table of labels of slides or patients.
        target: column of the classes; None: "label".
        ks: numbers of nearest slides.
        where: condition on the slides that take part, as queries and as hits.
        bootstrap: of the patients, for intervals.
    """

    labels: Path
    target: str | None = None
    ks: Sequence[int] = KS
    where: str | None = None
    bootstrap: BootstrapSettings = field(default_factory=BootstrapSettings)


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalResult:
    """How often the nearest slides of other patients are of a slide's class.

    Attributes:
        name: of the vectors.
        task: slides, patients and classes that took part.
        found: the scores.
        notes: how the labels were understood, and what was left out.
        out: file of the scores, if wanted.
    """

    name: str
    task: Task
    found: Retrieval
    notes: tuple[str, ...]
    out: Path | None = None
    failures: tuple[str, ...] = ()
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``; NaN as null."""
        scores = [asdict(score) for score in self.found.scores]
        return {
            "vectors": self.name,
            "task": self.task.name,
            "slides": len(self.task),
            "patients": len(set(self.task.patient_ids)),
            "classes": {name: int((self.task.labels == c).sum()) for c, name in self._classes()},
            "scores": [
                {name: None if value != value else value for name, value in score.items()}  # noqa: PLR0124 # NaN
                for score in scores
            ],
            "ties": {str(k): count for k, count in self.found.ties.items()},
            "left_out_k": list(self.found.left_out),
            "notes": list(self.notes),
            "out": None if self.out is None else str(self.out),
        }

    def sentence(self) -> str:
        """The scores as tables, and what they mean."""
        parts = [grid_as_text(self._grid()), grid_as_text(self._class_grid())]
        lines = [*self._legend(), *self.notes]
        lines += [f"scores in {self.out}"] if self.out is not None else []
        return "\n\n".join([*parts, "\n".join(lines)])

    def _classes(self) -> Iterator[tuple[int, str]]:
        yield from enumerate(self.task.classes)

    def _grid(self) -> Grid:
        ks = tuple(self.found.ties)
        rows = []
        for measure, title in TITLES.items():
            scores = [s for s in self.found.scores if s.measure == measure and not s.of]
            by_k = {score.k: _cell(score) for score in scores}
            rows.append((title, *(by_k[k] for k in ks)))
        return Grid(
            title=f"{self.name} · {self.task.name} · {len(self.task)} slides of "
            f"{len(set(self.task.patient_ids))} patients, each searched for among the others'",
            header=("value [95 % interval] chance", *(f"@{k}" for k in ks)),
            rows=tuple(rows),
        )

    def _class_grid(self) -> Grid:
        """Precision and vote of each class, at the largest k up to 5."""
        k = max((k for k in self.found.ties if k <= 5), default=min(self.found.ties))
        wanted = ("precision", "majority")
        scores = {(s.of, s.measure): s for s in self.found.scores if s.k == k and s.of}
        rows = []
        for number_of, name in self._classes():
            own = self.task.labels == number_of
            patients = {p for p, mine in zip(self.task.patient_ids, own, strict=True) if mine}
            cells = (_cell(scores[name, measure]) for measure in wanted)
            rows.append((name, str(int(own.sum())), str(len(patients)), *cells))
        return Grid(
            title=f"by class, at {k}",
            header=("class", "slides", "patients", *(TITLES[m] for m in wanted)),
            rows=tuple(rows),
        )

    def _legend(self) -> Iterator[str]:
        yield (
            "precision: share of the k nearest with the slide's class; mAP: its average over their "
            "ranks; mMV: share of slides that the majority of the k is right about; top: share "
            "with their class among the k. Intervals: bootstrap over patients, the archive as it "
            "is. Chance: random rankings."
        )
        tied = [f"{count} at {k}" for k, count in self.found.ties.items() if count]
        if tied:
            yield f"votes that ended in a tie go to the nearest of its classes: {', '.join(tied)}"
        if self.found.left_out:
            said = ", ".join(map(str, self.found.left_out))
            yield f"left out: k = {said}, since some slides have fewer of other patients"
        for score in self.found.scores:
            if score.measure == "precision" and not score.of and score.best < 1:
                yield (
                    f"no ranking has more precision than {score.best:.3f} at {score.k}: some "
                    "classes have fewer slides of other patients"
                )


def retrieval(
    vectors: Path, out: Path | None = None, *, options: RetrievalOptions
) -> RetrievalResult:
    """Searches for every labelled slide among the slides of other patients.

    Args:
        vectors: table of ``gigassl embed`` or ``import-vectors``.
        out: CSV file for the scores.

    Raises:
        SettingsError: labels or a condition that cannot be used; fewer than two classes, or a class
            of one patient; no k for which all slides have so many of other patients.
        GigasslError: the table cannot be read.

    Example::

        options = gigassl.RetrievalOptions(labels=Path("labels.csv"), target="subtype")
        print(gigassl.retrieval(Path("vectors.parquet"), options=options).sentence())
    """
    if out is not None:
        refuse_suffix(out, (".csv",), what="-o names the file of the scores and")
    table = open_table(vectors)
    columns = search_columns(table, options.labels, where=options.where, show=())
    pairs = zip(table.slide_ids, table.patient_ids, columns.kept.tolist(), strict=True)
    available = {slide: patient for slide, patient, kept in pairs if kept}
    labelled = labelled_slides(
        read_label_table(options.labels),
        TargetSettings(target=options.target, kind="classification"),
        available=available,
    )
    found = retrieval_scores(
        _archive(table, labelled.task), ks=options.ks, settings=options.bootstrap
    )
    notes = (
        *columns.notes, *labelled.notes, *_left_out(labelled, table), *columns.patients_note()
    )  # fmt: skip
    result = RetrievalResult(
        name=vectors.stem, task=labelled.task, found=found, notes=notes, out=out
    )
    if out is not None:
        with claimed(out):
            _save(found.scores, out)
    return result


def _archive(table: SlideTable, task: Task) -> Archive:
    row_of = {name: row for row, name in enumerate(table.slide_ids)}
    vectors = table.embeddings[[row_of[name] for name in task.slide_ids]].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    _, patients = np.unique(np.array(task.patient_ids, dtype=object), return_inverse=True)
    return Archive(
        vectors=vectors.astype(np.float32), labels=task.labels.astype(np.int64),
        patients=patients.astype(np.int64), classes=task.classes,
    )  # fmt: skip


def _left_out(labelled: LabelledSlides, table: SlideTable) -> Iterator[str]:
    in_table = set(table.slide_ids)
    unlabelled = [one.slide_id for one in labelled.left_out if one.reason != NO_VECTOR]
    absent = [
        one.slide_id
        for one in labelled.left_out
        if one.reason == NO_VECTOR and one.slide_id not in in_table
    ]
    if unlabelled:
        yield f"{len(unlabelled)} slides without a label take no part: {some(unlabelled)}"
    if absent:
        yield f"{len(absent)} labelled slides have no vector: {some(absent)}"


def _cell(score: RetrievalScore) -> str:
    inside = f"[{number(score.low)}, {number(score.high)}]"
    return f"{number(score.value)} {inside} {number(score.chance)}"


def _save(scores: Sequence[RetrievalScore], path: Path) -> None:
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as handle:
        rows = [asdict(score) for score in scores]
        writer = csv.DictWriter(handle, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
