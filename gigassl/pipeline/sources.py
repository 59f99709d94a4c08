"""Where a run's bags come from: slides that are encoded now, or bag files encoded earlier."""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gigassl.bags.bag import Bag
from gigassl.bags.info import BagInfo
from gigassl.errors import SlideError
from gigassl.files import machine_error
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.stream import SlideInHand
from gigassl.slides.cohort import CohortSlide
from gigassl.slides.grid import GridSettings

OpenBag = Callable[[CohortSlide], Bag]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One slide of a run: its bag, or why there is none."""

    source: CohortSlide
    bag: Bag | None = None
    failure: SlideError | None = None


Outcomes = Generator[Outcome, None, None]
"""Outcomes one by one; closing it closes what is still open."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What all bags of an encoding run share."""

    encoder: str
    encoder_digest: str
    settings_digest: str
    provenance: Mapping[str, Any]
    grid: GridSettings


def outcome_of_slide(slide: SlideInHand, facts: RunFacts) -> Outcome:
    """The bag of an encoded slide, or its failure."""
    prepared, source = slide.prepared, slide.source
    if slide.failure is not None or prepared is None or slide.features is None:
        return Outcome(source=source, failure=slide.failure)
    opened, grid = prepared.slide, prepared.grid
    info = BagInfo(
        slide_id=source.slide_id,
        encoder=facts.encoder,
        encoder_digest=facts.encoder_digest,
        settings_digest=facts.settings_digest,
        inputs_digest=prepared.inputs_digest,
        provenance=facts.provenance,
        width_l0=opened.info.width_l0,
        height_l0=opened.info.height_l0,
        mpp_l0=opened.info.mpp,
        mpp_source=opened.mpp_source,
        slide_digest=opened.digest,
        tile_px=grid.tile_px,
        side_l0=grid.side_l0,
        target_mpp=facts.grid.target_mpp,
        effective_mpp=grid.plan.mpp,
        overlap_px=facts.grid.overlap_px,
    )
    features = slide.features
    bag = Bag(
        features=features[0], coords=grid.coords, info=info,
        variants=features[1:] if len(features) > 1 else None,
    )  # fmt: skip
    return Outcome(source=source, bag=bag)


def read_bags(
    sources: Sequence[CohortSlide], *, open_one: OpenBag, workers: int, progress: Progress
) -> Outcomes:
    """Bags from files, in the order given, read ahead by a few.

    Raises:
        MachineError: no file handles, which would hit every bag alike.
    """
    ahead: deque[tuple[CohortSlide, Future[Bag]]] = deque()
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="bag") as pool:
        waiting = iter(sources)
        while True:
            while len(ahead) < workers + 1 and (source := next(waiting, None)) is not None:
                ahead.append((source, pool.submit(open_one, source)))
            if not ahead:
                return
            outcome = _bag_outcome(*ahead.popleft())
            progress.tiles_done(0 if outcome.bag is None else len(outcome.bag.coords))
            progress.slide_done(outcome.source.slide_id, failed=outcome.bag is None)
            yield outcome


def _bag_outcome(source: CohortSlide, future: "Future[Bag]") -> Outcome:
    try:
        return Outcome(source=source, bag=future.result())
    except SlideError as error:
        return Outcome(source=source, failure=error)
    except OSError as error:
        if (known := machine_error(error, doing=f"reading {source.path}")) is not None:
            raise known from error
        failure = SlideError("the file cannot be read", stage="bag", detail=str(error))
        return Outcome(source=source, failure=failure)
