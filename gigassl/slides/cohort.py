"""Cohort: which slides to work on, from a folder or a CSV, each with an id and a patient."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gigassl.errors import SettingsError, SlideError
from gigassl.slides.listing import (
    BAG_SUFFIXES,
    SLIDE_SUFFIXES,
    files_below,
    remote_files_below,
)
from gigassl.stores import RemoteFile, Stores, StoreSettings
from gigassl.urls import folder_of, is_url, joined, name_of, path_of, shown

__all__ = [
    "BAG_SUFFIXES", "SLIDE_SUFFIXES", "Cohort", "CohortSlide", "is_bag", "patient_of",
    "read_cohort", "read_patients", "slide_id_of",
]  # fmt: skip

_TABLE_SUFFIXES = (".csv", ".tsv")

_TCGA_BARCODE = re.compile(r"^TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?=$|[-.])", re.IGNORECASE)

# column names of other tools' tables, the first that is present counts
_ID_COLUMNS = ("slide_id", "ID", "wsi", "FILENAME", "sample_id")
_PATH_COLUMNS = ("path", "image_path", "wsi")
_PATIENT_COLUMNS = ("patient_id", "case_id", "PATIENT")
_MPP_COLUMNS = ("mpp", "spacing_at_level_0")


@dataclass(frozen=True, kw_only=True)
class CohortSlide:
    """One slide (or bag file) of a cohort.

    Attributes:
        patient_rule: where patient_id comes from: "column", "tcga-barcode" or "slide_id".
        path: the file; of a slide in a store its place there, until it is staged.
        mpp: the cohort's own word on the level-0 resolution, µm/px, if any.
        labels: the other columns of the table, as text.
        remote: the file in its store; None where ``path`` is a local file.
    """

    slide_id: str
    path: Path
    patient_id: str
    patient_rule: str
    mpp: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    remote: RemoteFile | None = None

    @property
    def where(self) -> str:
        """Path or URL, as it may be shown."""
        return str(self.path) if self.remote is None else shown(self.remote.url)

    @property
    def is_there(self) -> bool:
        """Whether its file is."""
        return self.path.is_file() if self.remote is None else self.remote.n_bytes is not None

    def n_bytes(self) -> int:
        """Size of its file, without a download.

        Raises:
            SlideError: its store does not say it.
            OSError: no such file.
        """
        if self.remote is None:
            return self.path.stat().st_size
        if self.remote.n_bytes is None:
            raise SlideError(self.remote.problem, stage="fetch")
        return self.remote.n_bytes


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Slides sorted by slide_id, every id once, and the table rows whose file is not there."""

    slides: tuple[CohortSlide, ...]
    missing: tuple[CohortSlide, ...] = ()

    def __len__(self) -> int:
        return len(self.slides)

    def shard(self, index: int, *, of: int) -> "Cohort":
        """Part ``index`` (1 … ``of``) of the cohort; the parts are disjoint and nearly equal."""
        if not 1 <= index <= of:
            raise SettingsError(f"--shard i/n needs 1 ≤ i ≤ n; got {index}/{of}")
        return Cohort(slides=self.slides[index - 1 :: of], missing=self.missing[index - 1 :: of])


def slide_id_of(path: Path) -> str:
    """File name without a known slide or bag suffix; never split at other dots.

    >>> slide_id_of(Path("TCGA-AA-3518-01Z-00-DX1.0a1b.svs"))
    'TCGA-AA-3518-01Z-00-DX1.0a1b'
    """
    name = path.name
    for suffix in sorted((*SLIDE_SUFFIXES, *BAG_SUFFIXES), key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def patient_of(slide_id: str) -> tuple[str, str]:
    """Patient of a slide when no column says it, and the rule that was used.

    >>> patient_of("TCGA-AA-3518-01Z-00-DX1.0a1b")
    ('TCGA-AA-3518', 'tcga-barcode')
    >>> patient_of("biopsy 7")
    ('biopsy 7', 'slide_id')
    """
    barcode = _TCGA_BARCODE.match(slide_id)
    return (barcode.group(0), "tcga-barcode") if barcode else (slide_id, "slide_id")


def read_patients(table: Path) -> Mapping[str, str]:
    """slide_id → patient_id of a CSV (or TSV); where no column says it, the rule of the names.

    Raises:
        SettingsError: no such file or column of slide names, or a slide of two patients.
    """
    if not table.is_file():
        raise SettingsError(f"no such table: {table}")
    with table.open(newline="", encoding="utf-8-sig") as handle:
        dialect = csv.excel_tab if table.suffix.lower() == ".tsv" else csv.excel
        rows = list(csv.DictReader(handle, dialect=dialect, restval=""))
    columns = list(rows[0]) if rows else []
    named = next((c for c in (*_ID_COLUMNS, *_PATH_COLUMNS) if c in columns), None)
    if named is None:
        raise SettingsError(f"{table} has no column slide_id; it has: {', '.join(columns)}")
    patient = next((c for c in _PATIENT_COLUMNS if c in columns), None)
    found: dict[str, str] = {}
    for row in rows:
        slide_id = slide_id_of(Path(row[named].strip()))
        patient_id = (row[patient].strip() if patient else "") or patient_of(slide_id)[0]
        if slide_id and found.setdefault(slide_id, patient_id) != patient_id:
            raise SettingsError(
                f"{table}: slide '{slide_id}' has two patients, '{found[slide_id]}' and "
                f"'{patient_id}'"
            )
    return found


def read_cohort(
    source: Path | str, *, slide_dir: Path | None = None, stores: StoreSettings | None = None
) -> Cohort:
    """The cohort of a folder (searched recursively), of one file, or of a CSV.

    Args:
        source: a folder of slides or of bags, one slide or bag file, or a CSV with ``slide_id`` and
            ``path`` (relative paths start at the CSV's folder). The tables of CLAM, Giga-SSL,
            TRIDENT, STAMP and slide2vec are understood as well. With ``stores`` source and paths
            may be URLs.
        slide_dir: where to look for the slides of a table that names no paths.
        stores: how files at URLs are reached; None: URLs are refused.

    Raises:
        SettingsError: nothing there, two files with one slide_id, unusable table.
        StoreError: a store is out of reach.
    """
    if isinstance(source, str) and is_url(source):
        return _from_url(source, stores=_reached(stores, source), slide_dir=slide_dir)
    source = Path(source)
    if not source.exists():
        raise SettingsError(f"no such file or folder: {source}")
    if source.is_dir():
        return _of_one_kind(_from_files(files_below(source)), str(source))
    if source.suffix.lower() in _TABLE_SUFFIXES:
        slides = _from_table(
            source.read_bytes().decode("utf-8-sig"), str(source), base=slide_dir or source.parent,
            slide_dir=slide_dir,
        )  # fmt: skip
        return _checked(_described(slides, stores))
    return _from_files([source])


def _reached(stores: StoreSettings | None, url: str) -> Stores:
    if stores is None:
        raise SettingsError(
            f"{shown(url)}: slides at a URL are read by `gigassl embed` and `gigassl encode`; copy "
            "the files into a folder for what else is to be done with them"
        )
    return Stores(stores)


def _from_url(url: str, *, stores: Stores, slide_dir: Path | None) -> Cohort:
    suffix = path_of(url).suffix.lower()
    if suffix in _TABLE_SUFFIXES:
        text = stores.read(url).decode("utf-8-sig")
        slides = _from_table(
            text, shown(url), base=slide_dir or folder_of(url), slide_dir=slide_dir
        )
        return _checked(_described(slides, stores))
    if path_of(url).name.lower().endswith((*SLIDE_SUFFIXES, *BAG_SUFFIXES)):
        return _from_files([stores.described(url)])
    return _of_one_kind(_from_files(remote_files_below(url, stores)), shown(url))


def _of_one_kind(cohort: Cohort, folder: str) -> Cohort:
    if len(cohort) == 0:
        wanted = " ".join((*SLIDE_SUFFIXES, ".h5"))
        raise SettingsError(f"no slides or bags found in {folder}; looked for {wanted}")
    if len({is_bag(slide.path) for slide in cohort.slides}) > 1:
        raise SettingsError(f"{folder} holds both slides and bags; point at a folder of one kind")
    return cohort


def _described(
    slides: list[CohortSlide], stores: Stores | StoreSettings | None
) -> list[CohortSlide]:
    """Slides with what their store says of them."""
    urls = sorted({s.remote.url for s in slides if s.remote is not None})
    if not urls:
        return slides
    reached = stores if isinstance(stores, Stores) else _reached(stores, urls[0])
    found = {file.url: file for file in reached.described_all(urls)}
    return [replace(s, remote=found[s.remote.url]) if s.remote else s for s in slides]


def is_bag(path: Path) -> bool:
    """Whether a path names a bag file rather than a slide."""
    return path.suffix.lower() in BAG_SUFFIXES


def _from_files(files: Iterable[Path | RemoteFile]) -> Cohort:
    slides = []
    for file in files:
        remote = file if isinstance(file, RemoteFile) else None
        path = Path(path_of(file.url)) if isinstance(file, RemoteFile) else file
        is_dicom = path.suffix.lower() == ".dcm"
        slide_id = path.parent.name if is_dicom else slide_id_of(path)
        patient_id, rule = patient_of(slide_id)
        slides.append(
            CohortSlide(
                slide_id=slide_id, path=path, patient_id=patient_id, patient_rule=rule,
                remote=remote,
            )
        )  # fmt: skip
    return _checked(slides)


def _checked(slides: list[CohortSlide]) -> Cohort:
    by_id: dict[str, CohortSlide] = {}
    for slide in slides:
        other = by_id.setdefault(slide.slide_id, slide)
        if other is not slide:
            raise SettingsError(
                f"two files with the slide_id '{slide.slide_id}': {other.where} and {slide.where}; "
                "rename one, or list the slides in a CSV with slide_id and path"
            )
    ordered = [by_id[slide_id] for slide_id in sorted(by_id)]
    return Cohort(
        slides=tuple(s for s in ordered if s.is_there),
        missing=tuple(s for s in ordered if not s.is_there),
    )


def _from_table(
    text: str, table: str, *, base: Path | str, slide_dir: Path | None
) -> list[CohortSlide]:
    dialect = csv.excel_tab if table.lower().endswith(".tsv") else csv.excel
    handle = io.StringIO(text, newline="")
    rows = list(csv.DictReader(handle, dialect=dialect, restkey="", restval=""))
    if not rows:
        raise SettingsError(f"{table} holds no rows; expected slide_id,path[,patient_id][,mpp]")
    columns = list(rows[0])
    id_column = next((c for c in _ID_COLUMNS if c in columns), None)
    path_column = next((c for c in _PATH_COLUMNS if c in columns), None)
    if id_column is None and path_column is None:
        raise SettingsError(
            f"{table} has neither a slide_id nor a path column; its columns: {', '.join(columns)}"
        )
    if path_column is None and slide_dir is None:
        raise SettingsError(
            f"{table} has no path column; add one, or say where the slides lie with --slide-dir"
        )
    found = {slide_id_of(p): p for p in files_below(slide_dir)} if slide_dir else {}
    slides = []
    for line, row in enumerate(rows, start=2):
        slides.append(
            _slide_of_row(row, id_column=id_column, path_column=path_column, found=found,
                          where=f"{table} line {line}", base=base)
        )  # fmt: skip
    return slides


def _slide_of_row(
    row: Mapping[str, str], *, id_column: str | None, path_column: str | None,
    found: Mapping[str, Path], where: str, base: Path | str,
) -> CohortSlide:  # fmt: skip
    named = (row[path_column] if path_column else "").strip()
    given_id = (row[id_column] if id_column else "").strip()
    if not named and not given_id:
        raise SettingsError(f"{where}: neither slide_id nor path is filled in")
    # tables of other tools write the id with or without the file's suffix
    slide_id = slide_id_of(Path(given_id or (name_of(named) if is_url(named) else named)))
    here = None if named else found.get(slide_id)
    place = here or _place(named or slide_id, base, where=where)
    patient_column = next((c for c in _PATIENT_COLUMNS if (row.get(c) or "").strip()), None)
    patient_id, rule = (
        (row[patient_column].strip(), "column") if patient_column else patient_of(slide_id)
    )
    used = {id_column, path_column, patient_column, *_MPP_COLUMNS}
    return CohortSlide(
        slide_id=slide_id,
        path=Path(path_of(place)) if isinstance(place, str) else place,
        remote=RemoteFile(url=place) if isinstance(place, str) else None,
        patient_id=patient_id,
        patient_rule=rule,
        mpp=_mpp_of_row(row, where=where),
        labels={k: v for k, v in row.items() if k and k not in used},
    )


def _place(named: str, base: Path | str, *, where: str) -> Path | str:
    """The path or URL that a table names; relative ones start at ``base``."""
    if is_url(named):
        return named
    if not isinstance(base, str):
        return base / named
    if Path(named).is_absolute():
        return Path(named)
    if ".." in Path(named).parts:
        raise SettingsError(f"{where}: '{named}' leads out of the table's folder; name the URL")
    return joined(base, named)


def _mpp_of_row(row: Mapping[str, str], *, where: str) -> float | None:
    text = next((row[c].strip() for c in _MPP_COLUMNS if (row.get(c) or "").strip()), "")
    if not text or text.lower() in {"nan", "na", "none"}:
        return None
    try:
        mpp = float(text)
    except ValueError:
        raise SettingsError(f"{where}: mpp must be a number in µm/px; got '{text}'") from None
    if not 0 < mpp < math.inf:
        raise SettingsError(f"{where}: mpp must be positive, in µm/px; got '{text}'")
    return mpp
