"""Survey: every slide's header opened, and the tiles counted of all of them or of a sample."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from gigassl.errors import SlideError
from gigassl.pipeline.failures import Failure
from gigassl.pipeline.forecast import Forecast, t_quantile
from gigassl.pipeline.opening import failure_of
from gigassl.pipeline.progress import Progress
from gigassl.slides.cohort import CohortSlide

Measure = Callable[[CohortSlide], float]
"""A number of a slide; raises ``SlideError`` where the slide cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What opening the slides showed.

    Attributes:
        sizes: of each slide that opens: tiles that would fit on it, or the bytes of its file.
        tiles: number of tiles of those that were looked at.
        failures: slides that cannot be embedded.
    """

    sizes: Mapping[str, float]
    tiles: Mapping[str, int]
    failures: Sequence[Failure]

    @property
    def counted_all(self) -> bool:
        """Whether the tiles of every slide were counted."""
        return len(self.tiles) + len(self._without_tiles) == len(self.sizes)

    @property
    def _without_tiles(self) -> set[str]:
        return {failure.slide_id for failure in self.failures} & self.sizes.keys()

    @property
    def n_tiles(self) -> Forecast:
        """Tiles of all slides: counted, or the ratio estimate of a sample (Cochran, 1977, ch. 6).

        The tiles of slides that were not looked at follow their sizes as those of the sample do;
        the interval holds the sample's own uncertainty and the spread of the others.
        """
        counted = float(sum(self.tiles.values()))
        if self.counted_all:
            return Forecast(value=counted, low=counted, high=counted)
        found = {**dict.fromkeys(self._without_tiles, 0), **self.tiles}
        sizes = np.array([self.sizes[name] for name in found])
        tiles = np.array([float(n) for n in found.values()])
        rest = np.array([size for name, size in self.sizes.items() if name not in found])
        ratio = tiles.sum() / sizes.sum()
        value = float(counted + ratio * rest.sum())
        if len(tiles) < 2:
            return Forecast(value=value)
        variance = ((tiles - ratio * sizes) ** 2).sum() / (len(tiles) - 1)
        reach = t_quantile(len(tiles) - 1) * math.sqrt(
            variance * (len(rest) ** 2 / len(tiles) * (rest.mean() / sizes.mean()) ** 2 + len(rest))
        )
        return Forecast(value=value, low=max(counted, value - reach), high=value + reach)


def survey(
    sources: Sequence[CohortSlide], *, size: Measure, count: Measure, look_at: int, workers: int,
    progress: Progress,
) -> Survey:  # fmt: skip
    """Measures every slide, then counts the tiles of all, or of a random sample of them.

    Args:
        size: opens a slide's header; what it gives should follow the number of tiles.
        count: number of tiles.
        look_at: most slides whose tiles are counted.
        workers: slides opened at once.

    Raises:
        MachineError: no file handles left.
    """
    opened = _measured(sources, size, workers=workers, progress=progress)
    there = [source for source in sources if not isinstance(opened[source.slide_id], Failure)]
    if len(there) > look_at:
        picked = np.random.default_rng(0).choice(len(there), size=look_at, replace=False)
        there = [there[i] for i in np.sort(picked)]
    looked = _measured(there, count, workers=workers, progress=progress)
    found = [*opened.values(), *looked.values()]
    return Survey(
        sizes={name: value for name, value in opened.items() if isinstance(value, float)},
        tiles={name: round(n) for name, n in looked.items() if isinstance(n, float)},
        failures=[failure for failure in found if isinstance(failure, Failure)],
    )


def _measured(
    sources: Sequence[CohortSlide], measure: Measure, *, workers: int, progress: Progress
) -> dict[str, float | Failure]:
    """The measure of each slide, or its failure, several at once."""
    progress.started(len(sources))
    with ThreadPoolExecutor(workers, thread_name_prefix="survey") as pool:
        try:
            return dict(_told(sources, pool.map(_attempt(measure), sources), progress=progress))
        finally:
            pool.shutdown(cancel_futures=True)


def _attempt(measure: Measure) -> Callable[[CohortSlide], float | Failure]:
    def attempted(source: CohortSlide) -> float | Failure:
        try:
            return float(measure(source))
        except (SlideError, OSError) as error:
            return Failure.of(source, failure_of(error, source))

    return attempted


def _told(
    sources: Sequence[CohortSlide], found: Iterator[float | Failure], *, progress: Progress
) -> Iterator[tuple[str, float | Failure]]:
    for source, value in zip(sources, found, strict=True):
        progress.slide_done(source.slide_id, failed=isinstance(value, Failure))
        yield source.slide_id, value
