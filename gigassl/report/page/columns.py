"""Columns: what slides of a map are coloured and filtered by, numbers or names."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from gigassl.delimited import finite_number

_FEW = 6
"""Numbers of no more different values than this are names: classes, grades, centres."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """What is known of each slide.

    Attributes:
        name: once a page.
        group: what it stands below in the list of columns.
        texts: one a slide, "" where not known.
        numbers: the same as numbers (NaN where not known); None where they are names.
    """

    name: str
    group: str
    texts: tuple[str, ...]
    numbers: Float[np.ndarray, " slide"] | None = None

    @property
    def known(self) -> int:
        """Slides of which it is known."""
        return sum(text != "" for text in self.texts)

    @property
    def categories(self) -> tuple[str, ...]:
        """Names in the order in which people count; empty where they are numbers."""
        if self.numbers is not None:
            return ()
        return tuple(sorted(set(self.texts) - {""}, key=_place))

    def codes(self) -> Int64[np.ndarray, " slide"]:
        """Number of each slide's category; -1 where not known."""
        number = {name: k for k, name in enumerate(self.categories)}
        return np.array([number.get(text, -1) for text in self.texts], dtype=np.int64)

    def as_record(self) -> dict[str, Any]:
        """The column for the page's script."""
        record: dict[str, Any] = {"name": self.name, "group": self.group}
        if self.numbers is None:
            return {**record, "names": list(self.categories), "codes": self.codes()}
        return {**record, "values": [_rounded(value) for value in self.numbers.tolist()]}


def column_of_texts(name: str, texts: Sequence[str], *, group: str) -> Column:
    """A column of texts, as numbers where all of them are, and of more than a few values."""
    values = [finite_number(text) for text in texts]
    numeric = all(value is not None for value, text in zip(values, texts, strict=True) if text)
    if not numeric or len(set(values) - {None}) <= _FEW:
        return Column(name=name, group=group, texts=tuple(texts))
    numbers = np.array([math.nan if value is None else value for value in values])
    return Column(name=name, group=group, texts=tuple(texts), numbers=numbers)


def column_of_numbers(name: str, values: Sequence[float | None], *, group: str) -> Column:
    """A column of numbers, None or NaN where not known; of few values they become names."""
    numbers = np.array([math.nan if value is None else float(value) for value in values])
    texts = tuple("" if math.isnan(value) else f"{value:.6g}" for value in numbers.tolist())
    few = len(set(texts) - {""}) <= _FEW
    return Column(name=name, group=group, texts=texts, numbers=None if few else numbers)


def distinct(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Columns that tell slides apart, each under a name of its own; the first of a name stays."""
    found: dict[str, Column] = {}
    for column in columns:
        if len(set(column.texts)) > 1:
            found.setdefault(column.name, column)
    return tuple(found.values())


def by_name(columns: Sequence[Column]) -> Mapping[str, Column]:
    """Columns by their names."""
    return {column.name: column for column in columns}


def _place(name: str) -> tuple[bool, float, str]:
    value = finite_number(name)
    return value is None, 0.0 if value is None else value, name


def _rounded(value: float) -> float | None:
    """Six digits are more than a colour or a filter can show."""
    return None if math.isnan(value) else float(f"{value:.6g}")
