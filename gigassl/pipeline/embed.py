"""The main job: a collection of slides or bags into one Parquet table, one row a slide."""

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from gigassl.bags.bag import save_bag
from gigassl.bags.prepare import TileSettings
from gigassl.digests import digest_of_settings
from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.contamination import combined
from gigassl.evaluate.vector_set import FIRST_BLOCK
from gigassl.pipeline.bag_job import BagJob
from gigassl.pipeline.embed_result import EmbedResult
from gigassl.pipeline.engines import encoding_job
from gigassl.pipeline.failures import (
    Failure,
    missing_files,
)
from gigassl.pipeline.forecast import ForetellingProgress
from gigassl.pipeline.gate import quality_of
from gigassl.pipeline.jobs import (
    Job,
    RunOptions,
    known_inputs,
    known_sizes,
    provenance_of,
)
from gigassl.pipeline.outputs import Output, claimed_output, keep_failures, kept_bags
from gigassl.pipeline.parts import Parts
from gigassl.pipeline.progress import Progress, Silent
from gigassl.pipeline.rows import slide_row
from gigassl.pipeline.slide_encoding import SlideEncoding, slide_encoding
from gigassl.pipeline.sources import Outcome, Outcomes
from gigassl.slides.cohort import Cohort, CohortSlide, is_bag, read_cohort
from gigassl.tiles.engine import TileEncoder
from gigassl.urls import beside
from gigassl.vectors.ensemble import EnsembleSettings
from gigassl.vectors.merge import differing_settings
from gigassl.vectors.slide_model import SlideModel

log = logging.getLogger("gigassl")

DEFAULT_ENCODER = "efficientnet-lite0"


@dataclass(frozen=True, kw_only=True)
class EmbedSettings:
    """Everything that decides a slide's vector, beside the tile encoder.

    Attributes:
        tiles: which pixels the tile encoder sees (not used where the input is bags).
        slide_encoder: how a bag becomes one vector: "mean", "max", "mean+std", or a trained slide
            encoder, loaded or by the path of its file.
        views: how a trained slide encoder looks at a slide; None is the default.
    """

    tiles: TileSettings = field(default_factory=TileSettings)
    slide_encoder: str | SlideModel = "mean"
    views: EnsembleSettings | None = None


def embed(
    source: Path | str | Cohort, out: Path | str, *, encoder: TileEncoder | str = DEFAULT_ENCODER,
    settings: EmbedSettings | None = None, options: RunOptions | None = None,
    progress: Progress | None = None,
) -> EmbedResult:  # fmt: skip
    """Embeds a collection: one row a slide in ``out``, one row a failure in ``<out>.failures.csv``.

    Opening, decoding, encoding and writing overlap; memory is bounded whatever the slide's size. A
    rerun embeds only slides that are missing, changed, failed before, or were made with other
    settings. A killed run loses at most the slide in hand.

    Args:
        source: folder, file or CSV (see ``read_cohort``) of slides, or of bags; or its URL.
        out: the Parquet file, or its URL; with ``options.shard`` the part's own file beside it.
        encoder: tile encoder, or a name that ``load_encoder`` knows; not used for bags.

    Raises:
        SettingsError: input or settings that cannot be used.
        BusyError: another run writes the same output.
        MachineError: disk full, read-only folder, no file handles.

    Example::

        result = gigassl.embed(Path("slides"), Path("vectors.parquet"))
    """
    settings, options = settings or EmbedSettings(), options or RunOptions()
    if not str(out).endswith(".parquet"):
        raise SettingsError(f"-o names the table to write and ends in .parquet; got {out}")
    encoding = slide_encoding(settings.slide_encoder, views=settings.views)
    if not isinstance(source, Cohort):
        source = read_cohort(source, slide_dir=options.slide_dir, stores=options.stores)
    if options.shard is not None:
        index, of = options.shard
        source = source.shard(index, of=of)
        out = beside(out, lambda path: shard_path(path, index, of=of))
    names = [slide.slide_id for slide in source.slides]
    with (
        claimed_output(out, options.stores) as output,
        kept_bags(options.keep_bags, options.stores, slide_ids=names) as bags,
        _job(source, encoder=encoder, settings=settings, options=options) as job,
    ):
        if job.gives is not None:
            encoding.check(job.gives)
        where = replace(output, bags=bags)
        run = _Run(source, where, job=job, encoding=encoding, options=options)
        return replace(run.carry_out(progress or Silent()), out=out)


def shard_path(out: Path, index: int, *, of: int) -> Path:
    """The file of one part of a job array.

    >>> shard_path(Path("v.parquet"), 2, of=8).name
    'v.shard-2-of-8.parquet'
    """
    return out.with_name(f"{out.stem}.shard-{index}-of-{of}{out.suffix}")


@contextmanager
def _job(
    cohort: Cohort, *, encoder: TileEncoder | str, settings: EmbedSettings, options: RunOptions
) -> Iterator[Job]:
    if cohort.slides and is_bag(cohort.slides[0].path):
        if options.engine is not None:
            raise SettingsError("bags are read in this process; leave --engine ray away")
        yield BagJob(cohort.slides, options=options, default_mpp=settings.tiles.default_mpp)
        return
    with encoding_job(encoder, tiles=settings.tiles, options=options) as job:
        yield job


class _Run:
    """One embedding run: what is done already, what is to do, and how it ends."""

    def __init__(
        self, cohort: Cohort, output: Output, *, job: Job, encoding: SlideEncoding,
        options: RunOptions,
    ) -> None:  # fmt: skip
        self.cohort, self.out, self.job, self.options = cohort, output.path, job, options
        self.output, self.place = output, output.place
        self.encoding, self.n_new = encoding, 0
        record = {**job.settings, "slide_encoder": encoding.settings}
        self.parts = Parts(
            self.out,
            place=self.place,
            settings_digest=digest_of_settings(record),
            provenance={
                **provenance_of(
                    record, pretrained_on=combined(encoding.pretrained_on, job.pretrained_on)
                ),
                **job.origin,
                "normalised": True,
                **({} if encoding.first_block is None else {FIRST_BLOCK: encoding.first_block}),
            },
        )
        self.failures = missing_files(cohort)

    def carry_out(self, progress: Progress) -> EmbedResult:
        todo = self._todo()
        self.parts.drop(slide.slide_id for slide in todo)
        n_reused = len(self.cohort) - len(todo)
        # on a cluster many slides end together, and the time between two ends is no slide's own
        sizes = {} if self.options.engine is not None else known_sizes(todo)
        watched = ForetellingProgress(progress, sizes=sizes, expected=self.options.expected)
        watched.started(len(todo))
        interrupted = False
        outcomes = self.job.outcomes(todo, progress=watched)
        try:
            with closing(outcomes), ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
                self._commit_all(outcomes, writer=writer)
        except KeyboardInterrupt:
            interrupted = True
        timing = None if interrupted else watched.ended()
        return replace(self._ended(n_reused=n_reused, interrupted=interrupted), timing=timing)

    def _todo(self) -> list[CohortSlide]:
        """Slides without a row that still holds; says what it found."""
        slides = self.cohort.slides
        self.parts.check_strangers({s.slide_id for s in (*slides, *self.cohort.missing)})
        inputs = known_inputs(slides, masks=self.options.masks)
        done = self.parts.reusable(slides, inputs)
        stale = self.parts.stale()
        if stale:
            differing = differing_settings(self.parts.earlier_provenance(), self.parts.provenance)
            changed = [f"{name}: {old} → {new}" for name, (old, new) in differing.items()]
            log.info(
                "%d slides in %s were made with other settings (%s); they are embedded anew",
                len(stale), self.place.shown(self.out), ", ".join(changed) or "unknown",
            )  # fmt: skip
        if done:
            n_new = len(slides) - len(done)
            log.info("%d of %d slides are done already; %d to do", len(done), len(slides), n_new)
        return [slide for slide in slides if slide.slide_id not in done]

    def _commit_all(self, outcomes: Outcomes, *, writer: ThreadPoolExecutor) -> None:
        """Commits each outcome while the next slide is encoded; at most one waits to be written."""
        pending: Future[Failure | None] | None = None
        try:
            for outcome in outcomes:
                self._note(pending)
                pending = writer.submit(self._commit, outcome)
        finally:
            self._note(pending)

    def _note(self, committed: "Future[Failure | None] | None") -> None:
        if committed is None:
            return
        failure = committed.result()
        if failure is None:
            self.n_new += 1
        else:
            log.warning("%s: %s", failure.slide_id, failure.reason)
            self.failures.append(failure)

    def _commit(self, outcome: Outcome) -> Failure | None:
        """Writes one slide's bag (if wanted), then its row, which says that all is done."""
        if outcome.bag is None:
            # not raised here: the error would hold this frame, and the frame the open slide
            failure = outcome.failure or SlideError("no features came back", stage="encode")
            return Failure.of(outcome.source, failure)
        try:
            row = slide_row(
                outcome.source, outcome.bag, encoding=self.encoding,
                settings_digest=self.parts.settings_digest,
            )  # fmt: skip
            if self.output.bags is not None:
                path = self.output.bags.path / f"{row.slide_id}.h5"
                save_bag(outcome.bag, path)
                self.output.bags.place.hand_over(path)
            self.parts.commit(row)
        except SlideError as error:
            return Failure.of(outcome.source, error)
        return None

    def _ended(self, *, n_reused: int, interrupted: bool) -> EmbedResult:
        table = None
        if interrupted and self.parts.stale():
            where = self.place.shown(self.out)
            log.info("%s keeps its earlier rows; run again to finish the new ones", where)
        else:
            table = self.parts.merge()
        keep_failures(self.failures, self.output)
        return EmbedResult(
            out=self.out,
            table=table,
            failures=tuple(self.failures),
            n_new=self.n_new,
            n_reused=n_reused,
            interrupted=interrupted,
            quality=quality_of(table),
        )
