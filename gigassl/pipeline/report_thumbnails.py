"""Thumbnails of a report: inside the page, or beside it where there are many slides."""

import hashlib
import io
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gigassl.errors import SettingsError, SlideError
from gigassl.files import written_whole
from gigassl.pipeline.failures import Failure
from gigassl.pipeline.opening import failure_of
from gigassl.pipeline.output import make_folder
from gigassl.pipeline.progress import Progress
from gigassl.report.page.atlas import Pictures
from gigassl.slides.cohort import CohortSlide, is_bag, read_cohort
from gigassl.slides.reader import open_slide
from gigassl.vectors.table import SlideTable

_SIDE_PX = 320
_ALL_INSIDE_BYTES = 9_000_000  # beside 4.9 MB of Plotly and the data, a page stays below 15 MB
_MOST_BYTES = 24_000
_SMALLER = ((320, 82), (256, 78), (224, 74), (192, 70), (160, 66), (128, 60), (96, 50), (64, 40))
"""Longest side, px, and JPEG quality, tried in turn until a thumbnail is small enough."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Thumbnails of a cohort, and the slides that have none although they should."""

    pictures: Pictures
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()


def thumbnails(
    table: SlideTable, slides: Path, *, out: Path, most_inside: int, workers: int,
    progress: Progress,
) -> Shown:  # fmt: skip
    """Reads a thumbnail of each slide of the table.

    Args:
        slides: folder or CSV of the slides.
        out: the page; many thumbnails go into a folder beside it, where those of an earlier run
            are kept.
        most_inside: slides up to which thumbnails stand inside the page.
        workers: threads that read.

    Raises:
        SettingsError: bags instead of slides, or not one slide of the table.
        MachineError: the folder cannot be written.
    """
    found = {source.slide_id: source for source in read_cohort(slides).slides}
    if any(is_bag(source.path) for source in found.values()):
        raise SettingsError(f"{slides} holds bags, which have no pictures; give the slides")
    wanted = [found.get(name) for name in table.slide_ids]
    if not any(wanted):
        raise SettingsError(
            f"{slides} holds none of the {len(table)} slides of the vectors; those are called "
            f"'{table.slide_ids[0]}' and so on, the files '{next(iter(found))}'"
        )
    absent = [
        Failure(slide_id=name, path="", stage="open", reason=f"no file of it in {slides.name}")
        for name, source in zip(table.slide_ids, wanted, strict=True)
        if source is None
    ]
    inside = len(table) <= most_inside
    folder = out.with_name(f"{out.stem}.thumbnails")
    if not inside:
        make_folder(folder)
    read = partial(_inside if inside else _beside, budget=inside_budget(len(table)), folder=folder)
    jobs = list(zip(wanted, table.data["mpp"].to_pylist(), strict=True))
    results = _read_all(read, jobs, workers=workers, progress=progress)
    texts = tuple(each if isinstance(each, str) else "" for each in results)
    broken = [each for each in results if isinstance(each, Failure)]
    others = len(found.keys() - set(table.slide_ids))
    notes = [f"{others} slides of {slides.name} have no vector and are not shown"] * (others > 0)
    return Shown(
        pictures=Pictures(inside=texts) if inside
        else Pictures(files=texts, folder=f"{folder.name}/"),
        failures=(*absent, *broken),
        notes=tuple(notes),
    )  # fmt: skip


_Job = tuple[CohortSlide | None, float | None]
_Read = partial[str]


def _read_all(
    read: _Read, jobs: Sequence[_Job], *, workers: int, progress: Progress
) -> list[str | Failure]:
    """What each job gave, in their order."""

    def attempt(job: _Job) -> str | Failure:
        source, mpp = job
        if source is None:
            return ""
        try:
            return read(source, mpp)
        except (SlideError, OSError) as error:
            return Failure.of(source, failure_of(error, source))

    progress.started(len(jobs))
    results: list[str | Failure] = []
    with ThreadPoolExecutor(workers) as pool:
        for (source, _), result in zip(jobs, pool.map(attempt, jobs), strict=True):
            results.append(result)
            name = "" if source is None else source.slide_id
            progress.slide_done(name, failed=isinstance(result, Failure))
    return results


def inside_budget(n_slides: int) -> int:
    """Bytes that a thumbnail may take; in base64 it is a third larger."""
    return min(_MOST_BYTES, _ALL_INSIDE_BYTES * 3 // 4 // n_slides)


def _inside(source: CohortSlide, mpp: float | None, *, budget: int, folder: Path) -> str:
    return b64encode(small_jpeg(_picture(source, mpp), budget=budget)).decode()


def _beside(source: CohortSlide, mpp: float | None, *, budget: int, folder: Path) -> str:
    """The thumbnail's file, named by slide and size: what an earlier run made is kept."""
    named = f"{source.slide_id}|{source.path.stat().st_size}|{_SMALLER}"
    file = folder / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.jpg"
    if not file.is_file():
        data = small_jpeg(_picture(source, mpp), budget=_MOST_BYTES)
        with written_whole(file) as part:
            part.write_bytes(data)
    return file.name


def _picture(source: CohortSlide, mpp: float | None) -> UInt8[np.ndarray, "row col 3"]:
    with open_slide(source.path, cohort_mpp=source.mpp, default_mpp=mpp) as slide:
        longest = max(slide.info.width_l0, slide.info.height_l0)
        return slide.thumbnail(slide.info.mpp * longest / _SIDE_PX)


def small_jpeg(picture: UInt8[np.ndarray, "row col 3"], *, budget: int) -> bytes:
    """A picture as JPEG of at most so many bytes, smaller and coarser until it fits.

    Args:
        picture: RGB.
        budget: bytes; the smallest form may exceed it.
    """
    image = Image.fromarray(picture)
    data = b""
    for side_px, quality in _SMALLER:
        part = image.copy()
        part.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
        held = io.BytesIO()
        part.save(held, "JPEG", quality=quality, optimize=True)
        data = held.getvalue()
        if len(data) <= budget:
            break
    return data
