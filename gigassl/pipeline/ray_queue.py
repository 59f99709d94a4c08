"""Which slide is next: the largest first, those that were lost again, last and alone."""

from collections import deque
from collections.abc import Iterable

from gigassl.errors import SlideError, Stage
from gigassl.slides.cohort import CohortSlide


class SlideQueue:
    """Slides that wait for an actor.

    Large ones go first, so that no long one is left at the end. A slide that was lost with its
    process waits until no other is left, and then gets an actor of its own: where one slide kills
    every actor it meets, no other is blamed for it.
    """

    def __init__(self, sources: Iterable[CohortSlide], *, retries: int) -> None:
        self._fresh = deque(sorted(sources, key=_n_bytes, reverse=True))
        self._again: deque[CohortSlide] = deque()
        self._retries = retries
        self._losses: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._fresh) + len(self._again)

    def take(self, *, beside: int) -> CohortSlide | None:
        """The next slide for an actor that has so many in hand; None where it must wait."""
        if self._fresh:
            return self._fresh.popleft()
        return self._again.popleft() if self._again and not beside else None

    def lost(self, source: CohortSlide, *, why: str, stage: Stage) -> SlideError | None:
        """Puts a slide back whose process was lost; its failure where that happened too often."""
        losses = self._losses.setdefault(source.slide_id, [])
        losses.append(why)
        if len(losses) <= self._retries:
            self._again.append(source)
            return None
        times = "once" if len(losses) == 1 else f"{len(losses)} times"
        reasons = "; ".join(dict.fromkeys(losses))
        return SlideError(f"given up after its work was lost {times}: {reasons}", stage=stage)


def _n_bytes(source: CohortSlide) -> int:
    try:
        return source.n_bytes()
    except (SlideError, OSError):
        return 0  # it fails when its turn comes, with the reason
