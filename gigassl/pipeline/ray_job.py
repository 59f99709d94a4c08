"""Encoding slides on a Ray cluster: the same bags as in one process, in any order."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import numpy as np

from gigassl.bags.bag import Bag
from gigassl.bags.prepare import TileSettings
from gigassl.pipeline.jobs import EncodingJob, RunOptions
from gigassl.pipeline.opening import Opening
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.ray_crew import Crew
from gigassl.pipeline.ray_decoding import Decoding
from gigassl.pipeline.ray_encoding import EncodedSlide, ShippedEncoder
from gigassl.pipeline.ray_queue import SlideQueue
from gigassl.pipeline.ray_settings import RayEngine
from gigassl.pipeline.sources import Outcome, Outcomes
from gigassl.pipeline.staging import Staging
from gigassl.slides.cohort import CohortSlide
from gigassl.tiles.engine import EncoderFacts, TileEncoder

log = logging.getLogger("gigassl")

_SECONDS_BETWEEN_REPORTS = 1.0


class RaySlideJob(EncodingJob):
    """Encodes slides by a crew of actors."""

    def __init__(
        self, crew: Crew, *, encoder: EncoderFacts, tiles: TileSettings, options: RunOptions,
        retries: int,
    ) -> None:  # fmt: skip
        super().__init__(encoder=encoder, tiles=tiles, options=options)
        self._crew, self._retries = crew, retries

    def outcomes(self, sources: Sequence[CohortSlide], *, progress: Progress) -> Outcomes:
        """Encodes the largest slides first; what is lost with its process is tried again.

        Raises:
            MachineError: disk, memory or file handles of a node, or no room on the cluster.
        """
        by_id = {source.slide_id: source for source in sources}
        queue = SlideQueue(map(_seen_from_anywhere, sources), retries=self._retries)
        try:
            while queue or self._crew.n_in_hand:
                self._crew.hand_out(queue, self.facts)
                for lent, done in self._crew.returned(timeout_s=_SECONDS_BETWEEN_REPORTS):
                    progress.tiles_done(done.n_tiles)
                    outcome = _outcome(by_id[lent.slide_id], lent, done=done, queue=queue)
                    if outcome is not None:
                        progress.slide_done(lent.slide_id, failed=outcome.bag is None)
                        yield outcome
                progress.tiles_done(self._crew.tiles_done())
        finally:
            self._crew.close()


@contextmanager
def ray_job(
    engine: RayEngine, *, encoder: TileEncoder, tiles: TileSettings, options: RunOptions
) -> Iterator[RaySlideJob]:
    """A job on the cluster that this process is connected to; its actors end with it.

    Raises:
        SettingsError: no room on the cluster, or the encoder does not run on its nodes.
        MachineError: actors die while they start.
    """
    opening = Opening(
        tiles=replace(tiles, external_masks=options.masks is not None),
        masks=None if options.masks is None else options.masks.absolute(),
        overviews=None if options.overviews is None else options.overviews.absolute(),
        staging=Staging(options.stores),
    )
    decoding = Decoding(
        opening=opening, batch_size=encoder.batch_size, threads=options.workers or 1
    )
    crew = Crew(engine, shipped=_shipped(encoder), decoding=decoding, variants=options.variants)
    try:
        yield RaySlideJob(
            crew, encoder=crew.first(), tiles=tiles, options=options, retries=engine.retries
        )
    finally:
        crew.close()


def _shipped(encoder: TileEncoder) -> ShippedEncoder:
    network = encoder.network
    if any(weight.device.type != "cpu" for weight in network.state_dict().values()):
        network = deepcopy(network).cpu()
    return ShippedEncoder(record=encoder.record, network=network, asked=encoder.asked)


def _seen_from_anywhere(source: CohortSlide) -> CohortSlide:
    """The slide by a path that does not depend on the folder in which a process runs."""
    return source if source.remote is not None else replace(source, path=source.path.absolute())


def _outcome(
    source: CohortSlide, lent: CohortSlide, *, done: EncodedSlide, queue: SlideQueue
) -> Outcome | None:
    """What became of a slide; None where it is tried again.

    Raises:
        MachineError: a node's.
    """
    if done.machine is not None:
        raise done.machine
    if done.lost:
        failure = queue.lost(lent, why=done.lost, stage=done.stage)
        if failure is None:
            log.warning("%s: %s; it is tried again", source.slide_id, done.lost)
            return None
        return Outcome(source=source, failure=failure)
    if done.bag is None:
        return Outcome(source=source, failure=done.failure)
    return Outcome(source=source, bag=_own(done.bag))


def _own(bag: Bag) -> Bag:
    """A bag whose arrays are no longer those in Ray's store, which are read-only."""
    variants = None if bag.variants is None else np.array(bag.variants)
    features, coords = np.array(bag.features), np.array(bag.coords)
    return replace(bag, features=features, coords=coords, variants=variants)
