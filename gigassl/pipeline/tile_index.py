"""Index of a cohort's tiles: one pass over the slides, resumed where it was interrupted."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gigassl.bags.prepare import TileSettings, inputs_digest, look_at
from gigassl.digests import digest_of_settings
from gigassl.errors import SettingsError, SlideError
from gigassl.files import machine_error
from gigassl.pipeline.failures import Failure, missing_files
from gigassl.pipeline.jobs import default_workers
from gigassl.pipeline.output import claimed, make_folder
from gigassl.pipeline.progress import Progress, Silent
from gigassl.slides.cohort import Cohort, CohortSlide, is_bag
from gigassl.slides.grid import make_grid
from gigassl.slides.region_reader import verified_jpeg_levels
from gigassl.tiles.pretrain.index import TileIndex, chosen, joined, load_index, save_index
from gigassl.units import l0_from_px


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """How the pass over the slides is run; changes no result.

    Attributes:
        masks: folder with ``<slide_id>.png`` or ``.geojson`` tissue masks, where those are used.
        workers: threads; None for the cores of the machine.
    """

    masks: Path | None = None
    workers: int | None = None


def tile_index(
    cohort: Cohort, *, settings: TileSettings, out: Path, options: IndexOptions | None = None,
    fewest: int = 1, progress: Progress | None = None,
) -> tuple[TileIndex, list[Failure]]:  # fmt: skip
    """Lays the tiles of every slide of a cohort, and keeps them in one file.

    Slides that are in ``out`` already (or in the parts of an interrupted run) with the same
    settings, file size, µm/px and mask are not opened again.

    Args:
        cohort: slides, not bags.
        settings: which tiles are kept.
        out: the ``.npz`` file.
        options: masks and threads.
        fewest: tiles that are needed in all: those of one batch.
        progress: told of each slide.

    Returns:
        The index, sorted by slide_id, and the slides that are left out.

    Raises:
        SettingsError: bags, no slide that can be used, or too few tiles.
        BusyError: another run is writing the same index.
        MachineError: disk, memory or file handles.
    """
    if any(is_bag(slide.path) for slide in cohort.slides):
        raise SettingsError("these are bags, which hold no pixels; give the slides")
    job = _IndexJob(cohort, settings=settings, out=out, options=options or IndexOptions())
    with claimed(out):
        index = job.run(progress or Silent())
    failures = sorted([*missing_files(cohort), *job.failures], key=lambda f: f.slide_id)
    if index is None:
        why = f"; the first: {failures[0].slide_id}: {failures[0].reason}" if failures else ""
        raise SettingsError(f"not one of {len(failures)} slides can be used{why}")
    if len(index.coords) < fewest:
        raise SettingsError(
            f"{len(index)} slides hold {len(index.coords)} tiles, and a batch needs {fewest}; "
            "lower --min-tissue, choose a smaller --tile-px or --batch-size, or give more slides"
        )
    return index, failures


class _IndexJob:
    """One pass: what is there already, what is to be done, and what failed."""

    def __init__(
        self, cohort: Cohort, *, settings: TileSettings, out: Path, options: IndexOptions
    ) -> None:
        self.cohort, self.settings, self.out = cohort, settings, out
        self.masks = options.masks
        self.workers = options.workers or default_workers("cuda")  # nothing else is running
        self.digest = digest_of_settings(settings)
        self.folder = out.with_name(f"{out.name}.parts")
        self.failures: list[Failure] = []

    def run(self, progress: Progress) -> TileIndex | None:
        """Does what is left to do and writes the whole; None where no slide can be used."""
        make_folder(self.folder)
        held = self._held()
        todo = [slide for slide in self.cohort.slides if slide.slide_id not in held]
        progress.started(len(todo))
        for source, part in self._laid(todo):
            if part is not None:
                held[source.slide_id] = part
                save_index(part, self.folder / _file_name(source.slide_id))
                progress.tiles_done(len(part.coords))
            progress.slide_done(source.slide_id, failed=part is None)
        parts = [held[s.slide_id] for s in self.cohort.slides if s.slide_id in held]
        whole = joined(parts) if parts else None
        if whole is not None:
            save_index(whole, self.out)
        shutil.rmtree(self.folder, ignore_errors=True)
        return whole

    def _held(self) -> dict[str, TileIndex]:
        """The slides that an earlier run has finished and that have not changed since."""
        inputs = self._inputs()
        found: dict[str, TileIndex] = {}
        for path in [self.out, *sorted(self.folder.glob("*.npz"))]:
            earlier = _earlier(path)
            if earlier is None or earlier.settings_digest != self.digest:
                continue
            for number, name in enumerate(earlier.slide_ids):
                if inputs.get(name) == earlier.inputs_digests[number]:
                    found[name] = chosen(earlier, [number])
        return {
            slide.slide_id: replace(
                found[slide.slide_id], paths=(slide.path,), patient_ids=(slide.patient_id,)
            )
            for slide in self.cohort.slides
            if slide.slide_id in found
        }

    def _inputs(self) -> Mapping[str, str]:
        found = {}
        for slide in self.cohort.slides:
            try:
                found[slide.slide_id] = inputs_digest(slide, masks=self.masks)
            except (OSError, SlideError):
                continue  # told when it is opened
        return found

    def _laid(self, todo: Sequence[CohortSlide]) -> Iterator[tuple[CohortSlide, TileIndex | None]]:
        """Each slide with its tiles, in order; what fails is noted."""
        with ThreadPoolExecutor(self.workers, thread_name_prefix="lay") as pool:
            futures = [pool.submit(self._lay, source) for source in todo]
            try:
                for source, future in zip(todo, futures, strict=True):
                    yield source, self._result(source, future)
            finally:
                pool.shutdown(cancel_futures=True)

    def _result(self, source: CohortSlide, future: "Future[TileIndex]") -> TileIndex | None:
        try:
            return future.result()
        except SlideError as error:
            failure = error
        except OSError as error:
            if (known := machine_error(error, doing=f"reading {source.path}")) is not None:
                raise known from error
            failure = SlideError("the file cannot be read", stage="read", detail=str(error))
        self.failures.append(Failure.of(source, failure))
        return None

    def _lay(self, source: CohortSlide) -> TileIndex:
        seen = look_at(source, self.settings, masks=self.masks)
        with seen.slide as slide:
            grid = make_grid(slide.info, self.settings.grid, tissue=seen.tissue)
            levels = verified_jpeg_levels(slide) if self.settings.fast else []
        info, wanted = slide.info, self.settings.grid
        step_px = wanted.tile_px - wanted.overlap_px
        return TileIndex(
            slide_ids=(source.slide_id,), paths=(source.path,), patient_ids=(source.patient_id,),
            slide_digests=(slide.digest,), inputs_digests=(seen.inputs_digest,),
            mpp_l0=np.array([info.mpp]),
            size_l0=np.array([[info.width_l0, info.height_l0]], np.int64),
            side_l0=np.array([grid.side_l0]),
            step_l0=np.array([l0_from_px(step_px, mpp=grid.plan.mpp, mpp_l0=info.mpp)]),
            jpeg_levels=np.array([sum(1 << level for level in levels)], np.int64),
            count=np.array([len(grid)], np.int64), coords=grid.coords,
            tissue=grid.tissue.astype(np.float32), tile_px=wanted.tile_px,
            target_mpp=wanted.target_mpp, settings_digest=self.digest,
        )  # fmt: skip


def _earlier(path: Path) -> TileIndex | None:
    """An index written earlier; None where there is none, or none that can be read."""
    if not path.is_file():
        return None
    try:
        return load_index(path)
    except SettingsError:
        return None  # of another version, or damaged by a power failure: it is made anew


def _file_name(slide_id: str) -> str:
    """A file name for any slide_id, which may hold any character and be long."""
    return f"{hashlib.sha256(slide_id.encode()).hexdigest()[:32]}.npz"
