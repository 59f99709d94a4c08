"""Where a run's bags come from: slides that are encoded now, or bag files encoded earlier."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from gigassl.bags.bag import Bag
from gigassl.errors import SlideError
from gigassl.files import machine_error
from gigassl.pipeline.opening import RunFacts, bag_info
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.stream import SlideInHand
from gigassl.slides.cohort import CohortSlide

OpenBag = Callable[[CohortSlide], Bag]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One slide of a run: its bag, or why there is none."""

    source: CohortSlide
    bag: Bag | None = None
    failure: SlideError | None = None


Outcomes = Generator[Outcome, None, None]
"""Outcomes one by one; closing it closes what is still open."""


def outcome_of_slide(slide: SlideInHand, facts: RunFacts) -> Outcome:
    """The bag of an encoded slide, or its failure."""
    prepared, source = slide.prepared, slide.source
    if slide.failure is not None or prepared is None or slide.features is None:
        return Outcome(source=source, failure=slide.failure)
    features = slide.features
    bag = Bag(
        features=features[0], coords=prepared.grid.coords, info=bag_info(source, prepared, facts),
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
        # without its frames, which hold the future that holds the error: nothing waits for a sweep
        return Outcome(source=source, failure=error.with_traceback(None))
    except OSError as error:
        if (known := machine_error(error, doing=f"reading {source.where}")) is not None:
            raise known from error
        failure = SlideError("the file cannot be read", stage="bag", detail=str(error))
        return Outcome(source=source, failure=failure)
