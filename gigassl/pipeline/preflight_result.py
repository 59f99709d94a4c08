"""What a run will need, before it begins: slides that fail, tiles, time, and room on the disk."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gigassl.pipeline.bank_estimate import gigabytes
from gigassl.pipeline.failures import Failure
from gigassl.pipeline.forecast import LEVEL, N_TIMED, Forecast, said
from gigassl.pipeline.preflight_timing import TimedSlide

_MOST_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class DiskNeed:
    """Bytes that a run takes.

    Attributes:
        table: of the finished table, at most.
        running: of the finished slides' files while it runs, which go when the table is written.
        bags: of the bags, where they are kept; None where they are not.
        cache: of local copies of slides that lie in a store; None where none does.
        free: that there are where the table goes; None for a store.
    """

    table: int
    running: int
    bags: int | None
    cache: int | None
    free: int | None

    @property
    def total(self) -> int:
        """The most at any moment."""
        return self.table + self.running + (self.bags or 0)

    def sentence(self) -> str:
        """The needs in one line."""
        parts = [f"{gigabytes(self.table)} for the table", f"{gigabytes(self.running)} on the way"]
        if self.bags is not None:
            parts.append(f"{gigabytes(self.bags)} for bags")
        if self.cache is not None:
            parts.append(f"up to {gigabytes(self.cache)} for copies of slides")
        free = "" if self.free is None else f" ({gigabytes(self.free)} free)"
        return ", ".join(parts) + free


@dataclass(frozen=True, kw_only=True)
class EmbedEstimate:
    """What ``embed`` will take with the same arguments.

    Attributes:
        n_slides: slides still to do, with those that will fail.
        n_reused: rows that hold already.
        n_looked_at: slides whose tiles were counted.
        n_tiles: of all; estimated where not all were looked at.
        failures: slides that cannot be embedded, as far as opening them shows.
        seconds: for all; None where no slide could be timed.
        cores: CPU cores that were busy meanwhile, on average.
        device: where the tile encoder runs; "" for bags.
        timed: the slides that were timed.
        disk: room that is needed; None where no slide could be timed.
    """

    n_slides: int
    n_reused: int
    n_looked_at: int
    n_tiles: Forecast
    failures: Sequence[Failure]
    seconds: Forecast | None
    cores: float
    device: str
    timed: Sequence[TimedSlide]
    disk: DiskNeed | None
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The estimate in plain values, for ``--json``."""
        hours = None if self.seconds is None else self.seconds.value / 3600
        on_gpu = self.device.startswith("cuda")
        return {
            **{name: asdict(self)[name] for name in ("n_slides", "n_reused", "n_looked_at")},
            "n_tiles": asdict(self.n_tiles),
            "seconds": None if self.seconds is None else asdict(self.seconds),
            "cpu_hours": None if hours is None else hours * self.cores,
            "gpu_hours": hours if on_gpu else None,
            "device": self.device,
            "timed": [asdict(slide) for slide in self.timed],
            "disk": None if self.disk is None else {**asdict(self.disk), "total": self.disk.total},
            "failures": [asdict(failure) for failure in self.failures],
        }

    def sentence(self) -> str:
        """The estimate, a line a question."""
        lines = [
            f"{self.n_slides} slides to do, {self.n_reused} done before",
            *self._failing(),
            f"tiles: {self._tiles()}",
            f"time: {self._time()}",
        ]
        if self.disk is not None:
            lines.append(f"disk: {self.disk.sentence()}")
        if self.disk is not None and self.disk.free is not None:
            lines += ["the disk has too little room"] * (self.disk.total > self.disk.free)
        return "\n".join([*lines, "nothing was written"])

    def _failing(self) -> Sequence[str]:
        if not self.failures:
            return ["no slide fails, as far as opening them shows"]
        listed = [f"  {f.slide_id}: {f.stage}: {f.reason}" for f in self.failures[:_MOST_LISTED]]
        more = len(self.failures) - len(listed)
        rest = [f"  … and {more} more; --json lists all"] if more else []
        return [f"{len(self.failures)} slides will fail:", *listed, *rest]

    def _tiles(self) -> str:
        tiles = self.n_tiles
        if tiles.low == tiles.high:
            return f"{tiles.value:,.0f}, counted on every slide"
        ends = "" if tiles.low is None else f" ({LEVEL:.0%} interval {tiles.low:,.0f} to "
        ends += "" if tiles.high is None else f"{tiles.high:,.0f})"
        return f"about {tiles.value:,.0f}{ends}, from {self.n_looked_at} slides looked at"

    def _time(self) -> str:
        if self.seconds is None:
            return "unknown, since no slide could be timed"
        rates = ", ".join(
            f"{slide.slide_id} {slide.n_tiles / slide.seconds:.0f} tiles/s" for slide in self.timed
        )
        hours = self.seconds.value / 3600
        device = f", {hours:.3g} GPU-hours" if self.device.startswith("cuda") else ""
        return (
            f"{said(self.seconds)} on this machine; {hours * self.cores:.3g} CPU-hours{device}; "
            f"from up to {N_TIMED} timed slides: {rates}"
        )
