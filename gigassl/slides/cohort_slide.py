"""One slide of a cohort: its id, its patient, and where its file lies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gigassl.errors import SlideError
from gigassl.slides.listing import BAG_SUFFIXES, SLIDE_SUFFIXES
from gigassl.stores import RemoteFile
from gigassl.urls import shown

_TCGA_BARCODE = re.compile(r"^TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?=$|[-.])", re.IGNORECASE)


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
        if self.remote is not None:
            return self.remote.n_bytes is not None
        try:
            return self.path.is_file()
        except OSError:  # a name too long, a folder that may not be entered
            return False

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


def is_bag(path: Path) -> bool:
    """Whether a path names a bag file rather than a slide."""
    return path.suffix.lower() in BAG_SUFFIXES
