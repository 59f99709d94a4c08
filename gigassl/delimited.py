"""Tables of text as others wrote them (CSV, TSV): rows by column name, or why that cannot be."""

import csv
import io
import math

from gigassl.errors import SettingsError


def rows_of_text(data: bytes, *, where: str) -> list[dict[str, str]]:
    """The rows of a table: column → cell, "" where a row is too short.

    What a row has beyond the last column stands in a list under "".

    Args:
        data: the file's content, UTF-8 with or without a mark at its beginning.
        where: its name, for messages; ``.tsv`` and ``.txt`` are separated by tabs.

    Raises:
        SettingsError: no UTF-8, or a cell as large as a book, which a lost quotation mark makes.
    """
    dialect = csv.excel_tab if where.lower().endswith((".tsv", ".txt")) else csv.excel
    try:
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        return list(csv.DictReader(text, dialect=dialect, restkey="", restval=""))
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{where} is no text in UTF-8 (byte {error.start}); save the table as CSV in UTF-8"
        ) from error
    except csv.Error as error:
        raise SettingsError(f"{where} cannot be read as a table: {error}") from error


def finite_number(text: str) -> float | None:
    """The number that a cell says; None for what is none, and for infinities and "nan".

    >>> finite_number("1e3"), finite_number("nan"), finite_number("high")
    (1000.0, None, None)
    """
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
