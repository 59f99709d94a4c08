"""Tables of text as others wrote them (CSV, TSV): rows by column name, or why that cannot be."""

import csv
import io

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
