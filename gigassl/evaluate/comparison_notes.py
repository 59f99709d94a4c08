"""Notes on a comparison: what its tables leave out, and what to keep in mind when reading them."""

from collections.abc import Iterator, Sequence

import numpy as np

from gigassl.evaluate.intervals import BOOTSTRAP, FEWEST_TEST_SETS
from gigassl.evaluate.scores import BlockScores, Delta, Score

FEW_PATIENTS = 20


def notes_on(tables: Sequence[BlockScores], *, wanted: str | None) -> tuple[str, ...]:
    """One sentence a finding, each once.

    Args:
        tables: all tables of the comparison.
        wanted: the reference that was asked for.
    """
    compared = {row.method for table in tables for row in table.rows if not row.control}
    found = [
        note
        for table in tables
        for note in (
            *_undefined(table),
            *_as_trained(table),
            *_few(table),
            *_seen(table),
            *_alone(table, n_methods=len(compared), wanted=wanted),
        )
    ]
    return tuple(dict.fromkeys(found))


def _undefined(table: BlockScores) -> Iterator[str]:
    block = table.block
    for row in table.rows:
        every = [name for name, score in row.scores.items() if np.isnan(score.folds).all()]
        if every:
            yield (
                f"{block.title}: {', '.join(every)} of '{row.method}' not defined in any fold (one "
                "class or value only, or scores that are not probabilities)"
            )
        for name, score in row.scores.items():
            n_missing = int(np.isnan(score.folds).sum())
            if 0 < n_missing < block.n_folds:
                yield (
                    f"{block.title}: {name} of '{row.method}' not defined in {n_missing} of "
                    f"{block.n_folds} folds; its mean leaves them out"
                )


def _as_trained(table: BlockScores) -> Iterator[str]:
    """Where several test sets did not do for the interval that such tables promise."""
    if not table.block.test_sets.max():
        return
    for row in table.rows:
        deltas = {f"Δ {control}": delta for control, delta in row.deltas.items()}
        found: list[tuple[str, Score | Delta]] = [*row.scores.items(), *deltas.items()]
        names = [n for n, each in found if each.interval == BOOTSTRAP and not np.isnan(each.low)]
        if names:
            yield (
                f"{table.block.title}: intervals of {', '.join(names)} of '{row.method}' are from "
                "the bootstrap over patients, models as trained: defined in fewer than "
                f"{FEWEST_TEST_SETS} test sets, or the same in each"
            )


def _few(table: BlockScores) -> Iterator[str]:
    if table.block.n_patients < FEW_PATIENTS:
        yield (
            f"{table.block.title}: {table.block.n_patients} patients; intervals and p-values of "
            f"fewer than {FEW_PATIENTS} are rough"
        )


def _seen(table: BlockScores) -> Iterator[str]:
    for row in table.rows:
        if row.seen:
            yield (
                f"{table.block.title}: '{row.method}' rests on encoders that were pretrained, "
                f"without labels, on {row.seen:.0%} of the test slides"
            )


def _alone(table: BlockScores, *, n_methods: int, wanted: str | None) -> Iterator[str]:
    methods = [row.method for row in table.rows if not row.control]
    if wanted is not None and table.reference is None:
        yield f"{table.block.title}: without '{wanted}', so nothing is tested there"
    elif len(methods) == 1 and n_methods > 1:
        yield (
            f"{table.block.title}: only '{methods[0]}' was run there, so it is tested against "
            "nothing; run the others with --splits and its folder of splits"
        )
