"""Reports: everything that is known of a cohort on one page."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gigassl.errors import SettingsError, unknown_name
from gigassl.evaluate.predictions import Predictions
from gigassl.files import written_whole
from gigassl.pipeline.compare import read_predictions
from gigassl.pipeline.failures import failures_path, read_failures
from gigassl.pipeline.inspection import as_text, inspect
from gigassl.pipeline.output import claimed
from gigassl.pipeline.progress import Progress, Silent
from gigassl.pipeline.report_batches import audited
from gigassl.pipeline.report_columns import (
    SCANNED_AT,
    TCGA_SITE,
    label_columns,
    prediction_columns,
    table_columns,
)
from gigassl.pipeline.report_result import ReportResult
from gigassl.pipeline.report_thumbnails import Shown, thumbnails
from gigassl.report.page.atlas import Pictures, atlas_section
from gigassl.report.page.batches import batches_section
from gigassl.report.page.cohort import cohort_section, failures_section, provenance_section
from gigassl.report.page.columns import Column, by_name, distinct
from gigassl.report.page.evaluation import evaluation_sections
from gigassl.report.page.explanations import explanation_sections
from gigassl.report.page.figure import needs
from gigassl.report.page.frame import page
from gigassl.report.page.outliers import outliers_section
from gigassl.report.page.projection import Neighbourhood, neighbourhood, pca_map, umap_map
from gigassl.report.page.section import Cell, Section
from gigassl.vectors.table import SlideTable, open_table

_NO_SITES = (
    "No slide's site is known, and all were scanned at one resolution: name the column of the site "
    "or scanner (--labels, --site-column)."
)


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What a report shows beside the vectors.

    Attributes:
        labels: tables of labels; each of their columns can colour the map.
        slide_table: which slides a patient has, for labels of patients.
        predictions: tables of predictions, as ``gigassl compare`` takes them.
        explanations: folders of ``gigassl explain``, one a system.
        slides: folder or CSV of the slides, for thumbnails.
        target: column that colours the map at first, and whose classes the robustness index takes.
        site_columns: columns of the labels that name site, scanner or batch; without them the site
            of TCGA barcodes and the slides' resolution.
        title: of the page; else the name of the vectors.
        umap: whether a UMAP is made; it takes most of the time.
        inline_thumbnails: up to so many slides, thumbnails stand inside the page.
        seed: of UMAP, folds and shuffling.
        workers: threads that read thumbnails.

    Raises:
        SettingsError: a number out of range.
    """

    labels: tuple[Path, ...] = ()
    slide_table: Path | None = None
    predictions: tuple[str, ...] = ()
    explanations: tuple[Path, ...] = ()
    slides: Path | None = None
    target: str | None = None
    site_columns: tuple[str, ...] = ()
    title: str = ""
    umap: bool = True
    inline_thumbnails: int = 1000
    seed: int = 0
    workers: int = 4

    def __post_init__(self) -> None:
        if min(self.inline_thumbnails, self.seed) < 0 or self.workers < 1:
            raise SettingsError(
                f"thumbnails inside the page and the seed must not be below 0, threads at least 1; "
                f"got {self.inline_thumbnails}, {self.seed} and {self.workers}"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cohort:
    """What the sections are made of."""

    path: Path
    table: SlideTable
    near: Neighbourhood
    columns: tuple[Column, ...]
    predictions: Sequence[Predictions]
    shown: Shown
    notes: Sequence[str]


def report_page(
    vectors: Path, out: Path, *, options: ReportOptions | None = None,
    progress: Progress | None = None,
) -> ReportResult:  # fmt: skip
    """Writes one HTML page about a table of vectors, which asks nothing of the network.

    Equal files and options give equal bytes.

    Args:
        vectors: table of ``gigassl embed`` or ``import-vectors``.
        out: the page; above ``inline_thumbnails`` slides, a folder of thumbnails lies beside it.
        options: what it shows beside the vectors.
        progress: told of thumbnails.

    Raises:
        SettingsError: packages of the extra ``report`` are absent; labels, predictions or slides
            that do not fit; an unknown column.
        GigasslError: a damaged file.
        MachineError: the page cannot be written.
    """
    options = options or ReportOptions()
    needs("plotly", "jinja2", *(["umap"] if options.umap else []))
    if out.suffix.lower() not in {".html", ".htm"}:
        raise SettingsError(f"a report is a page; end its name in .html, not '{out.name}'")
    with claimed(out):
        cohort = _read(vectors, out, options=options, progress=progress or Silent())
        sections = _sections(cohort, options)
        title = options.title or vectors.stem
        text = page(title, sections, lead=_lead(cohort.table, vectors))
        with written_whole(out) as part:
            part.write_text(text, encoding="utf-8")
    pictures = cohort.shown.pictures
    return ReportResult(
        out=out,
        n_bytes=out.stat().st_size,
        n_slides=len(cohort.table),
        sections=[section.anchor for section in sections],
        n_thumbnails=pictures.count,
        thumbnails=out.with_name(pictures.folder.rstrip("/")) if pictures.folder else None,
        notes=cohort.notes,
        failures=cohort.shown.failures,
    )


def _read(vectors: Path, out: Path, *, options: ReportOptions, progress: Progress) -> _Cohort:
    """Everything that is read, and refused, before anything takes long."""
    table = open_table(vectors)
    notes: list[str] = []
    predictions = read_predictions(options.predictions) if options.predictions else []
    labels = [
        column
        for path in options.labels
        for column in label_columns(path, table, slide_table=options.slide_table, notes=notes)
    ]
    said = prediction_columns(predictions, table, notes=notes)
    columns = distinct([*labels, *said, *table_columns(table)])
    for name in (options.target, *options.site_columns):
        if name is not None and name not in by_name(columns):
            raise unknown_name("column", name, known=by_name(columns))
    shown = Shown(pictures=Pictures())
    if options.slides is not None:
        shown = thumbnails(
            table, options.slides, out=out, most_inside=options.inline_thumbnails,
            workers=options.workers, progress=progress,
        )  # fmt: skip
    return _Cohort(
        path=vectors, table=table, near=neighbourhood(table), columns=columns,
        predictions=predictions, shown=shown, notes=[*notes, *shown.notes],
    )  # fmt: skip


def _sections(cohort: _Cohort, options: ReportOptions) -> list[Section]:
    table = cohort.table
    found = [
        cohort_section(table, more=_facts(table), remarks=cohort.notes),
        _map(cohort, options),
        *evaluation_sections(cohort.predictions),
        *explanation_sections(options.explanations),
        outliers_section(table.slide_ids, near=cohort.near, spread=_spread(table)),
        _batches(cohort, options),
        _failures(cohort),
        _provenance(cohort, options),
    ]
    return [section for section in found if section is not None]


def _facts(table: SlideTable) -> dict[str, Cell]:
    settings = table.provenance.get("settings", {})
    named = {
        "tile encoder": settings.get("encoder") or table.provenance.get("encoder"),
        "pooled by": settings.get("pooling"),
    }
    return {k: str(v) for k, v in named.items() if isinstance(v, str)}


def _spread(table: SlideTable) -> np.ndarray:
    values = table.data["view_spread"].to_pylist()
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _map(cohort: _Cohort, options: ReportOptions) -> Section:
    table = cohort.table
    maps = [pca_map(table.embeddings)]
    if options.umap:
        drawn = umap_map(table.embeddings, cohort.near, seed=options.seed)
        maps = maps if drawn is None else [drawn, *maps]
    first = options.target or next((column.name for column in cohort.columns), "")
    return atlas_section(
        {"slide_id": table.slide_ids, "patient_id": table.patient_ids},
        maps=maps, near=cohort.near, columns=cohort.columns, pictures=cohort.shown.pictures,
        first_column=first,
    )  # fmt: skip


def _batches(cohort: _Cohort, options: ReportOptions) -> Section:
    known = by_name(cohort.columns)
    names = options.site_columns or (TCGA_SITE, SCANNED_AT)
    asked = [known[name] for name in names if name in known]
    target = known[options.target] if options.target else None
    audits, remarks = audited(cohort.table, asked, target=target, seed=options.seed)
    if not asked:
        remarks = [_NO_SITES]
    return batches_section(audits, slide_ids=cohort.table.slide_ids, remarks=remarks)


def _failures(cohort: _Cohort) -> Section:
    path = failures_path(cohort.path)
    listed = [*read_failures(path), *cohort.shown.failures]
    # where a file lay is nobody's business but the machine's
    rows = [{k: v for k, v in asdict(each).items() if k != "path"} for each in listed]
    return failures_section(rows, listed_in=path.name)


def _provenance(cohort: _Cohort, options: ReportOptions) -> Section:
    predictions = [Path(source.split("=", 1)[-1]) for source in options.predictions]
    read = [
        ("vectors", cohort.path),
        *(("labels", path) for path in options.labels),
        *(("predictions", path) for path in predictions),
    ]
    files = [(role, path.name, _digest(path)) for role, path in read]
    settings: dict[str, Cell] = {
        "target": options.target,
        "site columns": ", ".join(options.site_columns) or None,
        "UMAP": "yes" if options.umap else "no",
        "seed": options.seed,
    }
    return provenance_section(as_text(inspect(cohort.path)), files=files, settings=settings)


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as handle:
        for block in iter(partial(handle.read, 1 << 20), b""):
            total.update(block)
    return total.hexdigest()[:32]


def _lead(table: SlideTable, vectors: Path) -> str:
    patients = len(set(table.patient_ids))
    return (
        f"{len(table):,} slides of {patients:,} patients, {table.dim} numbers each ({vectors.name})"
    )
