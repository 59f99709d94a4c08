"""Cohort: which slides to work on, from a folder or a CSV, each with an id and a patient."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.slides.cohort_slide import CohortSlide, is_bag, patient_of, slide_id_of
from gigassl.slides.cohort_table import read_patients, slides_of_table
from gigassl.slides.listing import (
    BAG_SUFFIXES,
    SLIDE_SUFFIXES,
    files_below,
    remote_files_below,
)
from gigassl.stores import RemoteFile, Stores, StoreSettings
from gigassl.urls import folder_of, is_url, path_of, shown

__all__ = [
    "BAG_SUFFIXES", "SLIDE_SUFFIXES", "Cohort", "CohortSlide", "is_bag", "patient_of",
    "read_cohort", "read_patients", "slide_id_of",
]  # fmt: skip

_TABLE_SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Slides sorted by slide_id, every id once, and the table rows whose file is not there.

    Attributes:
        slides: those to be read.
        missing: rows of the table whose file is not there; they end among the failures.
    """

    slides: tuple[CohortSlide, ...]
    missing: tuple[CohortSlide, ...] = ()

    def __len__(self) -> int:
        return len(self.slides)

    def shard(self, index: int, *, of: int) -> "Cohort":
        """Part ``index`` (1 … ``of``) of the cohort; the parts are disjoint and nearly equal."""
        if not 1 <= index <= of:
            raise SettingsError(f"--shard i/n needs 1 ≤ i ≤ n; got {index}/{of}")
        return Cohort(slides=self.slides[index - 1 :: of], missing=self.missing[index - 1 :: of])


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
        slides = slides_of_table(
            source.read_bytes(), str(source), base=slide_dir or source.parent,
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
        slides = slides_of_table(
            stores.read(url), shown(url), base=slide_dir or folder_of(url), slide_dir=slide_dir
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
