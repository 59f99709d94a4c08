"""Encoding a collection into a bank: many augmented batches of tiles per slide, in one folder."""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from gigassl.bags.bank_info import CARD, FAILURES, FILES, REDUCTION, BankSlide
from gigassl.bags.bank_writer import BankWriter
from gigassl.bags.reduction import save_reduction
from gigassl.errors import SlideError
from gigassl.files import clear_leftovers
from gigassl.pipeline.bank_estimate import BankEstimate
from gigassl.pipeline.bank_job import BankJob, BankSettings
from gigassl.pipeline.bank_stream import AugmentedSlide, encode_augmented
from gigassl.pipeline.embed import DEFAULT_ENCODER
from gigassl.pipeline.encode_result import EncodeResult
from gigassl.pipeline.failures import Failure, missing_files, save_failures
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.output import claimed
from gigassl.pipeline.progress import Progress, Silent
from gigassl.slides.cohort import Cohort, CohortSlide
from gigassl.tiles.engine import TileEncoder

__all__ = ["BankSettings", "encode_bank", "estimate_bank"]

log = logging.getLogger("gigassl")

# a run over fewer slides than are probed is over before its estimate would be of use
_WORTH_ESTIMATING = 4


def encode_bank(
    source: Path | Cohort, folder: Path, *, encoder: TileEncoder | str = DEFAULT_ENCODER,
    settings: BankSettings | None = None, options: RunOptions | None = None,
    progress: Progress | None = None,
) -> EncodeResult:  # fmt: skip
    """Encodes slides into a bank, which ``gigassl pretrain`` learns from.

    A rerun goes on where the last one stopped, slide by slide; equal inputs, settings and seed give
    equal bytes, whatever the number of workers and interruptions. Failures are listed in
    ``folder/failures.csv``.

    Args:
        source: folder, file or CSV of slides (see ``read_cohort``).
        folder: where the bank goes; with ``options.shard`` the part's own folder beside it.
        encoder: tile encoder, or a name that ``load_encoder`` knows.
        settings: which tiles, how many, how augmented, and how wide their features are stored.

    Raises:
        SettingsError: input or settings that cannot be used, or that differ from those of a bank
            begun in the folder.
        BusyError: another run writes the same folder.
        MachineError: too little room on the disk, read-only folder, no file handles.

    Example::

        gigassl.encode_bank(Path("slides"), Path("bank"))
    """
    job = BankJob(
        source, folder, encoder=encoder, settings=settings or BankSettings(),
        options=options or RunOptions(),
    )  # fmt: skip
    todo = job.todo()
    job.refuse_other_settings(job.info(job.given_reduction()))
    job.size(todo, seconds=None).refuse_full_disk(job.folder)
    with claimed(job.folder / CARD):
        clear_leftovers(job.folder, FILES)
        return _carry_out(job, progress or Silent())


def estimate_bank(
    source: Path | Cohort, folder: Path, *, encoder: TileEncoder | str = DEFAULT_ENCODER,
    settings: BankSettings | None = None, options: RunOptions | None = None,
) -> BankEstimate:  # fmt: skip
    """What ``encode_bank`` would take with the same arguments, in time and on disk; writes nothing.

    Raises:
        SettingsError: input or settings that cannot be used.
    """
    job = BankJob(
        source, folder, encoder=encoder, settings=settings or BankSettings(),
        options=options or RunOptions(),
    )  # fmt: skip
    job.refuse_other_settings(job.info(job.given_reduction()))
    todo = job.todo()
    return job.size(todo, seconds=job.seconds(todo))


def _carry_out(job: BankJob, progress: Progress) -> EncodeResult:
    todo = job.todo()
    if len(todo) >= _WORTH_ESTIMATING:
        log.info(job.size(todo, seconds=job.seconds(todo)).sentence())
    reduction = job.given_reduction()
    if job.wish is not None and reduction is None:
        reduction = job.fitted_reduction(job.wish)
    if reduction is not None:
        digest = job.slides.encoder.digest
        save_reduction(job.folder / REDUCTION, reduction, encoder_digest=digest)
    job.how = replace(job.how, reduction=reduction)
    names = [slide.slide_id for slide in job.cohort.slides]
    with BankWriter(job.folder, job.info(reduction), slide_ids=names) as bank:
        return _fill(bank, job, todo=todo, progress=progress)


def _fill(
    bank: BankWriter, job: BankJob, *, todo: Sequence[CohortSlide], progress: Progress
) -> EncodeResult:
    """Encodes what is left and finishes the bank."""
    left, cohort = {slide.slide_id for slide in todo}, job.cohort
    done = [slide.slide_id for slide in cohort.slides if slide.slide_id not in left]
    if done:
        log.info("%d of %d slides are done already; %d to do", len(done), len(cohort), len(todo))
    if todo:
        bank.begin(keep=done)
    failures = missing_files(cohort)
    progress.started(len(todo))
    interrupted = False
    try:
        _encode(bank, job, todo=todo, failures=failures, progress=progress)
    except KeyboardInterrupt:
        interrupted = True
    else:
        bank.finish(labels={slide.slide_id: slide.labels for slide in cohort.slides})
    save_failures(failures, job.folder / FAILURES)
    return EncodeResult(
        kind="bank",
        folder=job.folder,
        failures_file=job.folder / FAILURES,
        n_new=len(bank.slides) - len(done),
        n_reused=len(done),
        failures=tuple(failures),
        interrupted=interrupted,
    )


def _encode(
    bank: BankWriter, job: BankJob, *, todo: Sequence[CohortSlide], failures: list[Failure],
    progress: Progress,
) -> None:  # fmt: skip
    encoded = encode_augmented(
        todo, prepare=job.slides.prepare, how=job.how, workers=job.workers, progress=progress
    )
    with closing(encoded), job.slides.staging.ahead(todo):
        for work in encoded:
            try:
                _write(bank, work)
            except SlideError as error:
                source = work.slide.source
                log.warning("%s: %s", source.slide_id, error.reason)
                # without its frames, which hold the slide's file open, and which it would hold
                failures.append(Failure.of(source, error.with_traceback(None)))


def _write(bank: BankWriter, work: AugmentedSlide) -> None:
    """Stores an encoded slide.

    Raises:
        SlideError: it failed, or gave features that cannot be stored.
    """
    prepared, source, draws = work.slide.prepared, work.slide.source, work.draws
    if work.slide.failure is not None:
        raise work.slide.failure
    assert prepared is not None
    assert draws is not None
    assert work.features is not None
    opened, grid = prepared.slide, prepared.grid
    slide = BankSlide(
        slide_id=source.slide_id,
        row=bank.row_of(source.slide_id),
        patient_id=source.patient_id,
        patient_rule=source.patient_rule,
        file=source.path.name,
        n_tissue_tiles=len(grid),
        um_per_px_l0=opened.info.mpp,
        mpp_source=opened.mpp_source,
        effective_mpp=grid.plan.mpp,
        width_l0=opened.info.width_l0,
        height_l0=opened.info.height_l0,
        side_l0=grid.side_l0,
        slide_digest=opened.digest,
        inputs_digest=prepared.inputs_digest,
        encoder_digest=bank.info.encoder_digest,
        settings_digest=bank.info.settings_digest,
        labels=source.labels,
    )
    bank.write(slide, features=work.features, coords=grid.coords[draws.tiles])
