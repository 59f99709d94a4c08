"""How long a run will take, from the rates of a few slides; and whether it did."""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gigassl.errors import SettingsError
from gigassl.pipeline.progress import Progress, clock

log = logging.getLogger("gigassl")

N_TIMED = 3
LEVEL = 0.95
_WORTH_FORETELLING = 4
"""Fewer slides to come are over before their forecast would be of use."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A number that is not known yet, with a 95 % interval; without one where nothing says it."""

    value: float
    low: float | None = None
    high: float | None = None

    def times(self, other: "Forecast") -> "Forecast":
        """The product; its interval reaches from both lows to both highs, which is cautious."""
        low = None if self.low is None or other.low is None else self.low * other.low
        high = None if self.high is None or other.high is None else self.high * other.high
        return Forecast(value=self.value * other.value, low=low, high=high)

    def holds(self, actual: float) -> bool | None:
        """Whether a number lies in the interval; None without one."""
        if self.low is None or self.high is None:
            return None
        return bool(self.low <= actual <= self.high)


def mean_rate(
    rates: Sequence[float], *, shares: Sequence[float] = (), weights: Sequence[float] = ()
) -> Forecast:
    """The mean rate of slides to come, from the rates of a few.

    A t-interval on the logarithms, since slides differ by factors: with n rates of standard
    deviation s it reaches t(n - 1) · s · sqrt(1/n + Σ shares²) to either side, the last term for
    the slides' own spread about the mean (a prediction interval, not one of the mean alone).

    Args:
        rates: such as seconds a tile, one a timed slide.
        shares: of the work, of each slide to come; none: so many that their spread evens out.
        weights: of the rates in their mean: the timed slides' work, where they were not chosen to
            stand for equal parts of it.
    """
    n = len(rates)
    weighed = list(zip(rates, weights or [1.0] * n, strict=True))
    centre = sum(rate * weight for rate, weight in weighed) / sum(weight for _, weight in weighed)
    if n < 2 or min(rates) <= 0:
        return Forecast(value=centre)
    logs = [math.log(rate) for rate in rates]
    mean = sum(logs) / n
    spread = math.sqrt(sum((value - mean) ** 2 for value in logs) / (n - 1))
    reach = t_quantile(n - 1) * spread * math.sqrt(1 / n + sum(share**2 for share in shares))
    return Forecast(value=centre, low=centre * math.exp(-reach), high=centre * math.exp(reach))


def t_quantile(freedom: int) -> float:
    """How many standard errors a 95 % interval reaches to either side: of Student's t."""
    # in here, because an embedding run that foretells nothing needs nothing of SciPy, whose
    # statistics would take a second and 50 MB
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def said(forecast: Forecast) -> str:
    """Seconds as hours, minutes and seconds, with their interval.

    >>> said(Forecast(value=3725, low=3600, high=4000))
    'about 1:02:05 (95% interval 1:00:00 to 1:06:40)'
    """
    about = f"about {clock(forecast.value)}"
    if forecast.low is None or forecast.high is None:
        return f"{about} (one slide gives no interval)"
    return f"{about} ({LEVEL:.0%} interval {clock(forecast.low)} to {clock(forecast.high)})"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a dry run foretold of a run: slides to do, their tiles, and seconds for them."""

    n_slides: int
    n_tiles: Forecast
    seconds: Forecast


def read_expected(path: Path) -> Expected:
    """Reads what ``gigassl embed --dry-run --json`` printed.

    Raises:
        SettingsError: no such file, something else, or a dry run that could time no slide.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Expected(
            n_slides=int(found["n_slides"]),
            n_tiles=Forecast(**found["n_tiles"]),
            seconds=Forecast(**found["seconds"]),
        )
    except OSError as error:
        raise SettingsError(f"--expected {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"--expected {path} is not what a dry run foretold; write it with `gigassl embed … "
            f"--dry-run --json > {path.name}`"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a run was foretold, and what it took.

    Attributes:
        predicted: seconds.
        seconds: that it took.
        by: who foretold it.
        n_slides, n_tiles: that were done.
        expected: the dry run, where that foretold it.
    """

    predicted: Forecast
    seconds: float
    by: Literal["first slides", "dry run"]
    n_slides: int
    n_tiles: int
    expected: Expected | None = None

    def summary(self) -> dict[str, Any]:
        """The timing in plain values, for ``--json``."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        return {**found, "inside_interval": self.predicted.holds(self.seconds)}

    def sentence(self) -> str:
        """Predicted against actual."""
        inside = self.predicted.holds(self.seconds)
        verdict = {True: ", inside", False: ", outside", None: ""}[inside]
        took = f"it took {clock(self.seconds)}{verdict}; the {self.by} foretold "
        if self.expected is None:
            return f"{took}{said(self.predicted)}"
        tiles, slides = self.expected.n_tiles.value, self.expected.n_slides
        return (
            f"{took}{said(self.predicted)}, for {slides:,} slides of {tiles:,.0f} tiles "
            f"(done: {self.n_slides:,} of {self.n_tiles:,})"
        )


class ForetellingProgress:
    """Passes progress on; after a few slides it logs how long the run will take, by file sizes.

    The first slide sets things up; the three after it are timed. For runs that do one slide after
    another, where the time between two ends is a slide's own.
    """

    def __init__(
        self, inner: Progress, *, sizes: Mapping[str, float], expected: Expected | None = None
    ) -> None:
        """Watches a run.

        Args:
            inner: told everything too.
            sizes: bytes of each slide that is to do.
            expected: what a dry run foretold, which then counts instead.
        """
        self._inner, self._sizes, self._expected = inner, dict(sizes), expected
        self._timed: list[tuple[float, float]] = []
        self._begin = self._last = time.monotonic()
        self._n_slides = self._n_tiles = 0
        self._predicted = None if expected is None else expected.seconds

    def started(self, n_slides: int) -> None:
        """Starts the clock."""
        self._begin = self._last = time.monotonic()
        self._inner.started(n_slides)

    def tiles_done(self, n_tiles: int) -> None:
        """Counts them."""
        self._n_tiles += n_tiles
        self._inner.tiles_done(n_tiles)

    def slide_done(self, slide_id: str, *, failed: bool) -> None:
        """Times a slide; foretells the rest after the fourth that did not fail."""
        self._inner.slide_done(slide_id, failed=failed)
        self._n_slides += 1
        now = time.monotonic()
        size = self._sizes.pop(slide_id, 0.0)
        if not failed and size > 0 and len(self._timed) <= N_TIMED:
            self._timed.append(((now - self._last) / size, size))
            if len(self._timed) == N_TIMED + 1:
                self._foretell(elapsed=now - self._begin)
        self._last = now

    def _foretell(self, *, elapsed: float) -> None:
        left = sum(self._sizes.values())
        if self._predicted is not None or len(self._sizes) < _WORTH_FORETELLING or left <= 0:
            return
        rates, weights = zip(*self._timed[1:], strict=True)
        shares = [size / left for size in self._sizes.values()]
        rate = mean_rate(rates, shares=shares, weights=weights)
        ends = (None if end is None else elapsed + left * end for end in (rate.low, rate.high))
        low, high = ends
        self._predicted = Forecast(value=elapsed + left * rate.value, low=low, high=high)
        log.info("foretold from the first slides: %s", said(self._predicted))

    def ended(self) -> Timing | None:
        """Logs and returns predicted against actual; None where nothing was foretold."""
        if self._predicted is None:
            return None
        timing = Timing(
            predicted=self._predicted, seconds=time.monotonic() - self._begin,
            by="first slides" if self._expected is None else "dry run", n_slides=self._n_slides,
            n_tiles=self._n_tiles, expected=self._expected,
        )  # fmt: skip
        log.info(timing.sentence())
        return timing
