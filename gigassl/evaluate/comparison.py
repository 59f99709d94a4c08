"""Comparison: what methods are worth on the same test slides, with intervals and tests."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gigassl.errors import unknown_name
from gigassl.evaluate.blocks import Block, make_blocks
from gigassl.evaluate.bootstrap import BootstrapSettings, resample
from gigassl.evaluate.comparison_notes import notes_on
from gigassl.evaluate.metrics import Metric, chosen_metric, metrics_of
from gigassl.evaluate.pairs import Pair, adjusted, pairs_of
from gigassl.evaluate.predictions import Predictions
from gigassl.evaluate.scores import BlockScores, scored
from gigassl.evaluate.significance import Adjustment
from gigassl.evaluate.task import Kind

FURTHER_DRAWS = 200
"""Bootstrap draws of the metrics that nothing is tested by: enough for a variance."""


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """How methods are compared.

    Attributes:
        metric: that they are compared by; None: AUC, Spearman or C-index by the kind of task.
        reference: the method that others are tested against; None: the first that is no control.
        alpha: 1 - alpha is what intervals hold.
        draws: of the bootstrap over patients, for that metric; the others have at most 200.
        seed: of the bootstrap.
        adjust: p-values across tasks, training sizes and methods: "holm" or "bh".
    """

    metric: str | None = None
    reference: str | None = None
    alpha: float = 0.05
    draws: int = 1000
    seed: int = 0
    adjust: Adjustment = "holm"


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """All tables of a comparison.

    Attributes:
        kind: of all tasks.
        metric: that methods are compared by.
        metrics: all, the main one first.
        settings: how it was made.
        tables: one a task, splits, training size and level.
        pairs: tests against the reference.
        notes: what was left out or is not defined, and what to keep in mind; one sentence each.
    """

    kind: Kind
    metric: Metric
    metrics: tuple[Metric, ...]
    settings: CompareSettings
    tables: tuple[BlockScores, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


def compare(predictions: Sequence[Predictions], *, settings: CompareSettings) -> Comparison:
    """Scores all methods, and tests them against a reference, on the same test slides.

    Raises:
        SettingsError: tables that cannot be compared (see ``make_blocks``), an unknown metric or
            reference.
    """
    blocks = make_blocks(predictions)
    kind = blocks[0].kind
    main = chosen_metric(kind, settings.metric)
    metrics = (main, *(m for m in metrics_of(kind) if m is not main))
    _refuse_reference(blocks, settings.reference)
    bootstrap = BootstrapSettings(draws=settings.draws, seed=settings.seed, alpha=settings.alpha)
    fewer = replace(bootstrap, draws=min(settings.draws, FURTHER_DRAWS))
    tables, pairs = [], []
    for block in blocks:
        results = {
            **resample(block, metrics[:1], settings=bootstrap),
            **resample(block, metrics[1:], settings=fewer),
        }
        reference = _reference(block, settings.reference)
        table = scored(block, metrics, results=results, reference=reference, alpha=settings.alpha)
        tables.append(table)
        if reference is not None:
            pairs += pairs_of(block, reference, metric=main, results=results, alpha=settings.alpha)
    return Comparison(
        kind=kind,
        metric=main,
        metrics=metrics,
        settings=settings,
        tables=tuple(tables),
        pairs=tuple(adjusted(pairs, settings.adjust)),
        notes=notes_on(tables, wanted=settings.reference),
    )


def _refuse_reference(blocks: Sequence[Block], wanted: str | None) -> None:
    names = {said.method for block in blocks for said in block.methods}
    if wanted is not None and wanted not in names:
        raise unknown_name("reference", wanted, known=names)


def _reference(block: Block, wanted: str | None) -> str | None:
    """The wanted method where the block has it; the first that is no control if none is wanted."""
    if wanted is not None:
        return wanted if any(said.method == wanted for said in block.methods) else None
    return next((said.method for said in block.methods if not said.control), None)
