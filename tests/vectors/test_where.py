"""The language of conditions: read, written again, and against a slow walk through the rows."""

from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.vectors.table import table_from_rows
from gigassl.vectors.where import (
    MOST_LETTERS,
    MOST_NESTED,
    Comparison,
    Joined,
    Not,
    OneOf,
    Where,
    columns_of,
    parse_where,
)
from gigassl.vectors.where_columns import (
    Column,
    column_of_texts,
    columns_of_table,
    rows_where,
)
from tests.vectors.test_table import PROVENANCE, make_row

OPERATORS = ("==", "!=", "<", "<=", ">", ">=")
CELLS = ("a", "b", "A", "a b", "", None)
NUMBERS = (-1.0, 0.0, 2.5, 1e22, None)

finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.one_of(
    st.sampled_from(["x", "n_tiles", "os.time", "größe", "and", "Null", "a b", "`", "'", "1st"]),
    st.text(min_size=1, max_size=5),
)
values = st.one_of(st.none(), finite, st.text(max_size=5))
ordered = st.one_of(finite, st.text(max_size=5))


def conditions(column: Any, equal: Any, less: Any) -> Any:
    leaf = st.one_of(
        st.builds(Comparison, column=column, operator=st.sampled_from(OPERATORS[:2]), value=equal),
        st.builds(Comparison, column=column, operator=st.sampled_from(OPERATORS), value=less),
        st.builds(OneOf, column=column, values=st.lists(equal, min_size=1, max_size=3).map(tuple)),
    )
    return st.recursive(
        leaf,
        lambda part: st.one_of(
            st.builds(Not, part=part),
            st.builds(
                Joined,
                by=st.sampled_from(["and", "or"]),
                parts=st.lists(part, min_size=2, max_size=3).map(tuple),
            ),
        ),
        max_leaves=6,
    )


@given(where=conditions(names, values, ordered))
def test_what_is_written_reads_as_the_same(where: Where) -> None:
    assert parse_where(str(where)) == where


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("project='LUAD'", "project == 'LUAD'"),
        ("a == 1 OR b == 2 and c <> 3", "a == 1 or (b == 2 and c != 3)"),
        ("not a in ('x', 2, Null)", "not a in ('x', 2, null)"),
        ("a not in (1)", "not a in (1)"),
        ("stage is null and not(stage is not null)", "stage == null and not stage != null"),
        ('`a b` == "O\'Brien"', "`a b` == 'O''Brien'"),
        ("((x >= -1.50e+2))", "x >= -150"),
        ('x == "say ""a"""', "x == 'say \"a\"'"),
    ],
)
def test_spellings(text: str, meant: str) -> None:
    assert str(parse_where(text)) == meant


COLUMNS = {"t": column_of_texts(CELLS), "n": Column(texts=None, numbers=pa.array(NUMBERS))}


def table_columns(n: int, seed: int) -> tuple[dict[str, Column], list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    texts = [CELLS[k] for k in rng.integers(len(CELLS), size=n)]
    numbers = [NUMBERS[k] for k in rng.integers(len(NUMBERS), size=n)]
    columns = {
        "t": column_of_texts(texts),
        "n": Column(texts=None, numbers=pa.array(numbers, pa.float64())),
    }
    return columns, [{"t": t or None, "n": v} for t, v in zip(texts, numbers, strict=True)]


def obvious(where: Where, row: dict[str, Any]) -> bool | None:
    """SQL's logic, one row at a time: None where an empty cell leaves it open."""
    match where:
        case Not(part=part):
            said = obvious(part, row)
            return None if said is None else not said
        case Joined(by=by, parts=parts):
            each = [obvious(part, row) for part in parts]
            decides = by == "or"
            return decides if decides in each else None if None in each else not decides
        case OneOf(column=column, values=several):
            equal = [Comparison(column=column, operator="==", value=v) for v in several]
            return obvious(Joined(by="or", parts=(*equal, equal[0])), row)
        case Comparison(column=column, operator=operator, value=value):
            cell = row[column]
            if value is None:
                return (cell is None) == (operator == "==")
            if cell is None:
                return None
            verdicts: dict[str, bool] = {
                "==": cell == value, "!=": cell != value, "<": cell < value, "<=": cell <= value,
                ">": cell > value, ">=": cell >= value,
            }  # fmt: skip
            return verdicts[operator]
    raise AssertionError(where)


some_text, some_number = st.sampled_from(["a", "b", "A", "", "a b"]), st.sampled_from(NUMBERS[:4])
typed = st.one_of(
    conditions(st.just("t"), st.one_of(st.none(), some_text), some_text),
    conditions(st.just("n"), st.one_of(st.none(), some_number), some_number),
)
several = st.lists(typed, min_size=2, max_size=3).map(tuple)
mixed = st.builds(Joined, by=st.sampled_from(["and", "or"]), parts=several)


@given(where=st.one_of(typed, mixed), n=st.integers(1, 20), seed=st.integers(0, 99))
def test_the_rows_are_those_of_a_walk_through_them(where: Where, n: int, seed: int) -> None:
    # CELLS has "" for empty, which obvious sees as such too: no text is compared with it
    columns, rows = table_columns(n, seed)
    assert rows_where(where, columns).tolist() == [obvious(where, row) is True for row in rows]


@given(text=st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        where = parse_where(text)
    except SettingsError:
        return
    assert parse_where(str(where)) == where


@given(
    text=st.lists(
        st.sampled_from(
            ["t", "n", "==", "<", "(", ")", "and", "or", "not", "in", "is", "null", ",", "'a'", "1"]
        ),
        max_size=12,
    ).map(" ".join)
)
def test_words_in_any_order_are_evaluated_or_refused(text: str) -> None:
    with suppress(SettingsError):
        rows_where(parse_where(text), COLUMNS)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "",
            "at letter 1: expected a column, such as: project == 'LUAD' and n_tiles > 100; got th",
        ),
        ("n_tiles", "at letter 8: expected == != < <= > >= in, or is; got the end"),
        (
            "project == LUAD",
            r"at letter 12: expected a number, or a text in quotes \('LUAD'\); got",
        ),
        ("'project' == 'LUAD'", "at letter 1: expected a column, without quotes"),
        ("project == 'LUAD", "at letter 12: the quotation mark ' is not closed"),
        ("(a == 1", r"at letter 8: expected 'and', 'or' or '\)'; got the end"),
        ("a == 1 b == 2", "at letter 8: expected 'and', 'or' or the end; got 'b'"),
        ("a in 'x'", r"at letter 6: expected '\('; got ''x''"),
        ("a in ()", "at letter 7: expected a number, a text in quotes, or null"),
        ("a < null", "null is neither more nor less"),
        ("a is 5", "expected 'null' or 'not null'; got '5'"),
        ("a not 5", "expected 'in'; got '5'"),
        ("a == 5x", "at letter 6: numbers are written as 5, 0.25 or 1e-3"),
        ("a == 1e999", "expected a number below 1e308; got '1e999'"),
        ("a & b", "at letter 3: '&' means nothing here"),
        ("__import__('os').system('id')", "at letter 11: expected == != < <= > >= in, or is"),
        ("(" * (MOST_NESTED + 1) + "a == 1", f"nested more than {MOST_NESTED} deep"),
        ("not " * 5000, f"the condition has 20000 letters, at most {MOST_LETTERS} are read"),
        ("not " * 2000, f"nested more than {MOST_NESTED} deep"),
        ("9" * 9000, "at letter 1: expected a column"),
    ],
)
def test_what_cannot_be_read_says_where_and_what_was_expected(text: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        parse_where(text)


def test_the_columns_of_a_table() -> None:
    rows = [make_row(name, embedding=np.eye(4)[0].astype(np.float32)) for name in ("a", "b")]
    columns = columns_of_table(table_from_rows(rows, provenance=PROVENANCE))
    assert "embedding" not in columns
    assert rows_where(parse_where("slide_id == 'b'"), columns).tolist() == [False, True]
    assert rows_where(parse_where("n_tiles < 1e9 and view_spread is not null"), columns).all()
    for text, sentence in (
        ("slide == 'b'", "unknown column 'slide'; did you mean 'slide_id'"),
        ("n_tiles == 'many'", "column 'n_tiles' holds numbers; write 'many' without quotes"),
        ("slide_id > 5", "column 'slide_id' holds texts, such as 'a'; put 5 in quotes"),
        ("embedding == 1", "unknown column 'embedding'"),
    ):
        with pytest.raises(SettingsError, match=sentence):
            rows_where(parse_where(text), columns)


def test_cells_of_labels_are_texts_and_where_all_are_numbers_these_too() -> None:
    columns = {"stage": column_of_texts(["1", "", "10", None]), "id": column_of_texts(["007", "x"])}
    asked = {"stage > 2": [2], "stage == '10'": [2], "stage is null": [1, 3], "not stage == 1": [2]}
    for text, rows in asked.items():
        assert np.flatnonzero(rows_where(parse_where(text), columns)).tolist() == rows, text
    with pytest.raises(SettingsError, match="column 'id' holds texts, such as 'x'; put 7 in quot"):
        rows_where(parse_where("id == 7"), columns)
    assert list(columns_of(parse_where("a == 1 and not b in (1, 2)"))) == ["a", "b"]
    assert columns["stage"].empty.tolist() == [False, True, False, True]


def test_a_number_that_is_nan_is_an_empty_cell() -> None:
    rows = [make_row("a", mpp=float("nan")), make_row("b", mpp=0.5), make_row("c", mpp=None)]
    columns = columns_of_table(table_from_rows(rows, provenance=PROVENANCE))
    assert rows_where(parse_where("mpp != 5"), columns).tolist() == [False, True, False]
    assert rows_where(parse_where("mpp is null"), columns).tolist() == [True, False, True]
