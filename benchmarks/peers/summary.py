"""From runs to a table: medians with their range, ratios of the same round, what falls short."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.peers.cases import OURS, Case, Entry
from benchmarks.peers.measure import Run

Runs = Mapping[Entry, Sequence[Run]]
"""Runs of one case: of every contender one a round, in the order of rounds."""

READING = "reading"
FASTER_READING, OF_THE_ENCODER = 1.5, 0.9


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender in one case.

    Attributes:
        rate: least, median and most tiles/s of the work.
        cpu_ms: median, a tile.
        whole_s: median, with imports and loading the network.
        rss_mb, pss_mb: median peak of the processes together (see ``Run``).
        ours: least, median and most of our rate over this one's, at the same precision, of the same
            round.
        cosine: least and median, with the reference.
    """

    case: str
    name: str
    n_tiles: int
    rate: tuple[float, float, float]
    cpu_ms: float
    whole_s: float
    rss_mb: float
    pss_mb: float
    ours: tuple[float, float, float]
    cosine: tuple[float, float] | None = None


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Least, median, most."""
    return min(values), median(values), max(values)


def row_of(
    case: Case, entry: Entry, *, runs: Runs, cosine: tuple[float, float] | None = None
) -> Row:
    own = runs[entry]
    ours = runs[Entry(module=OURS, precision=entry.precision)]
    return Row(
        case=case.name,
        name=entry.name,
        n_tiles=own[0].n_tiles,
        rate=spread([run.rate for run in own]),
        cpu_ms=median(run.cpu_ms for run in own),
        whole_s=median(run.whole_s for run in own),
        rss_mb=median(run.rss_mb for run in own),
        pss_mb=median(run.pss_mb for run in own),
        ours=spread([mine.rate / run.rate for mine, run in zip(ours, own, strict=True)]),
        cosine=cosine,
    )


def missed(
    rows: Sequence[Row], *, limits: Mapping[str, Sequence[Mapping[str, float]]]
) -> list[str]:
    """Targets that were not met, one sentence each.

    Args:
        limits: by case, a round each, as ``measure.limits`` gives them.
    """
    sentences = []
    for case in dict.fromkeys(row.case for row in rows):
        group = [row for row in rows if row.case == case]
        wanted = FASTER_READING if case.startswith(READING) else 1.0
        sentences += [
            f"{case}: {row.ours[1]:.2f} × {row.name}, wanted {wanted:g}"
            for row in group if not is_ours(row) and row.ours[1] < wanted
        ]  # fmt: skip
        sentences += _heavier(case, group)
    sentences += [
        f"{case}: {share:.2f} of the encoder alone, wanted {OF_THE_ENCODER:g}"
        for case, share in of_the_encoder(rows, limits).items()
        if not case.startswith(READING) and share < OF_THE_ENCODER
    ]
    return sentences


def _heavier(case: str, group: Sequence[Row]) -> list[str]:
    peers = [row for row in group if not is_ours(row)]
    found = []
    for kind in ("rss_mb", "pss_mb"):
        mine = max(getattr(row, kind) for row in group if is_ours(row))
        lightest = min(peers, key=lambda row: float(getattr(row, kind)))
        if mine > getattr(lightest, kind):
            least = f"{lightest.name} {getattr(lightest, kind):.0f}"
            found.append(f"{case}: {mine:.0f} MB ({kind[:3].upper()}), {least}")
    return found


def of_the_encoder(
    rows: Sequence[Row], limits: Mapping[str, Sequence[Mapping[str, float]]]
) -> dict[str, float]:
    """By case, our rate in fp32 over that of the network alone, medians."""
    return {
        row.case: row.rate[1] / median(told["encoder alone"] for told in limits[row.case])
        for row in rows if row.name == OURS and limits.get(row.case)
    }  # fmt: skip


def is_ours(row: Row) -> bool:
    return row.name.split(",")[0] == OURS


def as_markdown(rows: Sequence[Row]) -> str:
    """The table of the page."""
    head = (
        "| case | | tiles | tiles/s (least–most) | gigassl is | CPU ms a tile | start to end, s "
        f"| RSS, MB | PSS, MB | cosine |\n|{' --- |' * 10}\n"
    )
    return head + "\n".join(map(_line, rows)) + "\n"


def _line(row: Row) -> str:
    least, middle, most = row.rate
    ratio = "" if is_ours(row) else f"{row.ours[1]:.2f} × ({row.ours[0]:.2f}–{row.ours[2]:.2f})"
    cosine = "" if row.cosine is None else f"{row.cosine[1]:.5f} (least {row.cosine[0]:.5f})"
    return (
        f"| {row.case} | {row.name} | {row.n_tiles:,} | {middle:,.0f} ({least:,.0f}–{most:,.0f}) "
        f"| {ratio} | {row.cpu_ms:.2f} | {row.whole_s:.1f} | {row.rss_mb:,.0f} "
        f"| {row.pss_mb:,.0f} | {cosine} |"
    )
