"""Tables of text: rows by column name, or one sentence."""

import pytest

from gigassl.delimited import rows_of_text
from gigassl.errors import SettingsError


def test_rows_by_column_short_and_long_ones_too() -> None:
    rows = rows_of_text("\ufeffa,b\n1,2\n3\n4,5,6\n".encode(), where="x.csv")
    assert rows == [{"a": "1", "b": "2"}, {"a": "3", "b": ""}, {"a": "4", "b": "5", "": ["6"]}]
    assert rows_of_text(b"a\tb\n1\t2\n", where="x.TSV") == [{"a": "1", "b": "2"}]
    assert rows_of_text(b"", where="x.csv") == []


def test_another_encoding_is_a_sentence() -> None:
    with pytest.raises(SettingsError, match=r"x\.csv is no text in UTF-8 \(byte 9\); save"):
        rows_of_text("a,b\nMüller,é".encode("latin-1").replace(b"M", b"Aaaaa"), where="x.csv")


def test_a_lost_quotation_mark_is_a_sentence() -> None:
    with pytest.raises(SettingsError, match=r"x\.csv cannot be read as a table: field larger"):
        rows_of_text(b'a,b\n"' + b"x,y\n" * 40_000, where="x.csv")
