"""Columns that a condition asks of, and the rows that satisfy it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from gigassl.delimited import finite_number
from gigassl.errors import SettingsError, unknown_name
from gigassl.vectors.table import SlideTable
from gigassl.vectors.where import Comparison, Not, OneOf, Where, columns_of

_COMPARE = {
    "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater,
    ">=": pc.greater_equal,
}  # fmt: skip
_JOIN = {"and": pc.and_kleene, "or": pc.or_kleene}


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One column, one cell a row, null where it is empty.

    Attributes:
        texts: what texts are compared with; None where cells are numbers and nothing else.
        numbers: what numbers are compared with; None where some cells are no numbers.
    """

    texts: pa.ChunkedArray | pa.Array | None
    numbers: pa.ChunkedArray | pa.Array | None

    @property
    def cells(self) -> Any:
        """The cells as they are shown, as an Arrow array."""
        return self.numbers if self.texts is None else self.texts

    @property
    def empty(self) -> Bool[np.ndarray, " row"]:
        """Which rows have no cell."""
        return np.asarray(pc.is_null(self.cells))


Columns = Mapping[str, Column]


def columns_of_table(table: SlideTable) -> dict[str, Column]:
    """The columns of a table of vectors that hold texts or numbers."""
    found = {}
    for field in table.data.schema:
        cells = table.data[field.name]
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            found[field.name] = Column(texts=None, numbers=_without_nan(cells))
        elif pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            found[field.name] = Column(texts=cells, numbers=None)
    return found


def column_of_texts(texts: Sequence[str | None]) -> Column:
    """A column of a table of labels, "" or None where empty; numbers too where all cells are."""
    cells = [text or None for text in texts]
    numbers = [None if text is None else finite_number(text) for text in cells]
    known = sum(text is not None for text in cells)
    all_numbers = known > 0 and sum(number is not None for number in numbers) == known
    return Column(
        texts=pa.array(cells, pa.string()),
        numbers=pa.array(numbers, pa.float64()) if all_numbers else None,
    )


def _without_nan(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = pc.cast(cells, pa.float64(), safe=False)
    return pc.if_else(pc.is_nan(numbers), None, numbers)


def rows_where(where: Where, columns: Columns) -> Bool[np.ndarray, " row"]:
    """Which rows satisfy a condition.

    As in SQL, an empty cell is neither equal nor unequal to a value, and neither more nor less, so
    that its row is left out, also under ``not``; ``== null`` finds it.

    Raises:
        SettingsError: unknown columns; a text compared with numbers, or a number with texts.
    """
    for name in columns_of(where):
        if name not in columns:
            raise unknown_name("column", name, known=columns)
    return np.asarray(pc.fill_null(_satisfied(where, columns), fill_value=False))


def _satisfied(where: Where, columns: Columns) -> pa.ChunkedArray | pa.Array:
    """True, false, or null where an empty cell leaves it open (Kleene's logic)."""
    if isinstance(where, Comparison):
        return _compared(columns[where.column], where)
    if isinstance(where, Not):
        return pc.invert(_satisfied(where.part, columns))
    if isinstance(where, OneOf):
        each = [Comparison(column=where.column, operator="==", value=v) for v in where.values]
        return reduce(pc.or_kleene, (_compared(columns[where.column], one) for one in each))
    return reduce(_JOIN[where.by], (_satisfied(part, columns) for part in where.parts))


def _compared(column: Column, asked: Comparison) -> pa.ChunkedArray | pa.Array:
    if asked.value is None:
        return pc.is_null(column.cells) if asked.operator == "==" else pc.is_valid(column.cells)
    if isinstance(asked.value, str):
        if column.texts is None:
            raise SettingsError(
                f"column '{asked.column}' holds numbers; write '{asked.value}' without quotes"
            )
        return _COMPARE[asked.operator](column.texts, pa.scalar(asked.value, pa.string()))
    if column.numbers is None:
        raise _no_numbers(column, asked.column, asked.value)
    return _COMPARE[asked.operator](column.numbers, pa.scalar(asked.value, pa.float64()))


def _no_numbers(column: Column, name: str, value: float) -> SettingsError:
    texts = [text for text in pc.unique(column.texts).to_pylist() if text is not None]
    words = [text for text in texts if finite_number(text) is None]
    such = f", such as '{words[0]}'" if words else ""
    return SettingsError(f"column '{name}' holds texts{such}; put {value:g} in quotes")
