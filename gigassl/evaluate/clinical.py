"""Clinical variables as columns of numbers: what slides must add to be worth looking at."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from gigassl.delimited import finite_number
from gigassl.errors import SettingsError
from gigassl.evaluate.labels import is_empty

MOST_LEVELS = 20
"""A text column of more different values is no variable but a name."""


def clinical_columns(
    cells: Mapping[str, Sequence[str]],
) -> tuple[Float64[np.ndarray, "slide column"], tuple[str, ...]]:
    """One column a number, one a value of a text; and where something is missing, one saying so.

    Missing numbers are filled with the mean. Scaling is left to the training folds.

    Args:
        cells: column → one text a slide, "" where empty.

    Returns:
        The columns, and notes on what is missing.

    Raises:
        SettingsError: a column that says nothing, or a text of too many different values.
    """
    made: list[np.ndarray] = []
    notes = []
    for name, texts in cells.items():
        known = np.array([not is_empty(text) for text in texts])
        if not known.any():
            raise SettingsError(f"the clinical column '{name}' is empty for all slides")
        numbers = [finite_number(text) for text in texts]
        is_numeric = all(v is not None for v, k in zip(numbers, known, strict=True) if k)
        made += _numeric(numbers, known) if is_numeric else _levels(name, texts, known)
        if not known.all():
            made.append((~known).astype(np.float64))
            notes.append(f"'{name}' is not known of {int((~known).sum())} of {len(known)} slides")
    return np.stack(made, axis=1), tuple(notes)


def _numeric(numbers: Sequence[float | None], known: np.ndarray) -> list[np.ndarray]:
    values = np.array([np.nan if value is None else value for value in numbers])
    return [np.where(known, values, values[known].mean())]


def _levels(name: str, texts: Sequence[str], known: np.ndarray) -> list[np.ndarray]:
    counts = Counter(text for text, k in zip(texts, known, strict=True) if k)
    if len(counts) > MOST_LEVELS:
        raise SettingsError(
            f"the clinical column '{name}' has {len(counts)} different texts, such as "
            f"'{next(iter(counts))}'; at most {MOST_LEVELS} can be groups. Merge some, or leave "
            "the column out"
        )
    return [np.array([text == level for text in texts], np.float64) for level in sorted(counts)]
