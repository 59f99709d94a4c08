"""Standing: whether the best method of a table is better than the others beyond chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gigassl.evaluate.bootstrap import BootstrapSettings, resample
from gigassl.evaluate.comparison import CompareSettings
from gigassl.evaluate.metrics import Metric
from gigassl.evaluate.pairs import Pair, pairs_of
from gigassl.evaluate.scores import BlockScores, MethodScores


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The best method of a table against all others, controls aside.

    Attributes:
        best: the method with the highest mean over folds (lowest, of a loss).
        rival: the method that it is hardest to tell from.
        p: that these two do not differ; NaN where the data do not tell.
        test: its name.
        ahead: whether the best is better than every other method.
    """

    best: str
    rival: str
    p: float
    test: str
    ahead: bool


def best_first(table: BlockScores, metric: Metric) -> tuple[MethodScores, ...]:
    """The rows by their mean over folds, the best first; not defined last, controls below all."""
    sign = 1.0 if metric.lower_is_better else -1.0

    def place(row: MethodScores) -> tuple[bool, bool, float]:
        mean = row.scores[metric.name].mean
        return bool(row.control), math.isnan(mean), 0.0 if math.isnan(mean) else sign * mean

    return tuple(sorted(table.rows, key=place))


def standing(table: BlockScores, metric: Metric, *, settings: CompareSettings) -> Standing | None:
    """Tests the best method against every other one, each by the test that the data allow.

    It is ahead if every test says so at ``settings.alpha``. As all must, p-values need no
    adjustment for their number, or for which method turned out best (intersection-union test,
    Berger, Technometrics 1982). None where fewer than two methods have a number.
    """
    rows = [row for row in best_first(table, metric) if not row.control]
    names = [row.method for row in rows if not math.isnan(row.scores[metric.name].mean)]
    if len(names) < 2:
        return None
    tests = _tests(table, names, metric=metric, settings=settings)
    hardest = max(tests, key=lambda pair: math.inf if math.isnan(pair.p) else pair.p)
    return Standing(
        best=names[0],
        rival=hardest.method,
        p=hardest.p,
        test=hardest.test,
        ahead=all(pair.p < settings.alpha for pair in tests),
    )


def _tests(
    table: BlockScores, names: Sequence[str], *, metric: Metric, settings: CompareSettings
) -> list[Pair]:
    """The first, which tables go by, of each method's tests against the first method."""
    said = tuple(each for each in table.block.methods if each.method in names)
    block = replace(table.block, methods=said)
    bootstrap = BootstrapSettings(draws=settings.draws, seed=settings.seed, alpha=settings.alpha)
    results = resample(block, [metric], settings=bootstrap)
    pairs = pairs_of(block, names[0], metric=metric, results=results, alpha=settings.alpha)
    return list({pair.method: pair for pair in reversed(pairs)}.values())
