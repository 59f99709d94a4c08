"""Encoding a collection into bags: one ``.h5`` a slide with tile features and coordinates."""

import logging
from contextlib import closing
from pathlib import Path

from gigassl.bags.bag import holds_variants, read_info, save_bag
from gigassl.bags.prepare import TileSettings, inputs_digest
from gigassl.errors import SettingsError, SlideError
from gigassl.files import clear_leftovers
from gigassl.pipeline.embed import DEFAULT_ENCODER
from gigassl.pipeline.encode_result import EncodeResult
from gigassl.pipeline.engines import encoding_job
from gigassl.pipeline.failures import Failure, missing_files, save_failures
from gigassl.pipeline.jobs import EncodingJob, RunOptions
from gigassl.pipeline.output import claimed
from gigassl.pipeline.progress import Progress, Silent
from gigassl.pipeline.variants_space import say_space
from gigassl.slides.cohort import Cohort, CohortSlide, is_bag, read_cohort
from gigassl.tiles.engine import TileEncoder

log = logging.getLogger("gigassl")


def encode(
    source: Path | str | Cohort, folder: Path, *, encoder: TileEncoder | str = DEFAULT_ENCODER,
    tiles: TileSettings | None = None, options: RunOptions | None = None,
    progress: Progress | None = None,
) -> EncodeResult:  # fmt: skip
    """Encodes slides into ``folder/<slide_id>.h5`` (TRIDENT layout with our attributes).

    A rerun encodes only what is missing, changed or was made with other settings; failures are
    listed in ``folder/failures.csv``. With ``options.variants`` the bags also hold the features of
    the tiles in the seven other turned and mirrored variants of the slide.

    Args:
        source: folder, file or CSV of slides (see ``read_cohort``), or its URL.
        folder: where the bags go; with ``options.shard`` several runs share it.
        encoder: tile encoder, or a name that ``load_encoder`` knows.
        tiles: which pixels the tile encoder sees.

    Raises:
        SettingsError: input or settings that cannot be used.
        BusyError: another run writes the same folder.
        MachineError: disk full, read-only folder, no file handles.
    """
    options, progress = options or RunOptions(), progress or Silent()
    if not isinstance(source, Cohort):
        source = read_cohort(source, slide_dir=options.slide_dir, stores=options.stores)
    if any(is_bag(slide.path) for slide in source.slides):
        raise SettingsError("these are bags already; `gigassl embed` takes them as they are")
    if options.shard is not None:
        source = source.shard(options.shard[0], of=options.shard[1])
    with claimed(_failures_file(folder, options)):
        # other parts of a job array write other bags into the same folder
        clear_leftovers(folder, {f"{slide.slide_id}.h5" for slide in source.slides})
        with encoding_job(encoder, tiles=tiles or TileSettings(), options=options) as job:
            return _carry_out(job, source, folder, progress=progress)


def _failures_file(folder: Path, options: RunOptions) -> Path:
    """Where a run lists its failures, and what it holds the lock of: each part has its own."""
    if options.shard is None:
        return folder / "failures.csv"
    index, of = options.shard
    return folder / f"failures.shard-{index}-of-{of}.csv"


def _carry_out(
    job: EncodingJob, cohort: Cohort, folder: Path, *, progress: Progress
) -> EncodeResult:
    todo = [slide for slide in cohort.slides if not _is_done(slide, folder, job=job)]
    n_reused = len(cohort) - len(todo)
    if n_reused:
        log.info("%d of %d slides are done already; %d to do", n_reused, len(cohort), len(todo))
    if job.options.variants:
        say_space(todo, folder, prepare=job.prepare, dim=job.encoder.dim)
    failures = missing_files(cohort)
    n_new, interrupted = 0, False
    progress.started(len(todo))
    try:
        with closing(job.outcomes(todo, progress=progress)) as outcomes:
            for outcome in outcomes:
                if outcome.bag is not None:
                    save_bag(outcome.bag, folder / f"{outcome.source.slide_id}.h5")
                    n_new += 1
                elif outcome.failure is not None:
                    log.warning("%s: %s", outcome.source.slide_id, outcome.failure.reason)
                    failures.append(Failure.of(outcome.source, outcome.failure))
    except KeyboardInterrupt:
        interrupted = True
    failures_file = _failures_file(folder, job.options)
    save_failures(failures, failures_file)
    return EncodeResult(
        kind="bags",
        folder=folder,
        failures_file=failures_file,
        n_new=n_new,
        n_reused=n_reused,
        failures=tuple(failures),
        interrupted=interrupted,
    )


def _is_done(slide: CohortSlide, folder: Path, *, job: EncodingJob) -> bool:
    path = folder / f"{slide.slide_id}.h5"
    if not path.is_file():
        return False
    try:
        info = read_info(path)
        if job.options.variants and not holds_variants(path):
            return False
        inputs = inputs_digest(slide, masks=job.options.masks)
    except (SlideError, OSError):
        return False  # damaged or foreign: encoded anew, and written whole over it
    return (info.settings_digest, info.inputs_digest) == (job.facts.settings_digest, inputs)
