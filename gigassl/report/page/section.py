"""Sections of a page, and the parts they are built of: tables, paragraphs, pictures."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

Cell = str | int | float | None
"""What stands in a table: text and ``Markup`` as they are, numbers written out, None as a dash."""

_NUMBER = re.compile(r"[\s\d.,+\-\u2212–±×%<>=\[\]()]*(nan|inf)?")
_DASH = "–"


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of a page.

    Attributes:
        anchor: its name in links, once a page: small letters, digits and hyphens.
        title: heading, also in the navigation.
        body: what stands below the heading; made by the functions of this package alone.
        lead: what is seen here, in a sentence or two.
    """

    anchor: str
    title: str
    body: Markup
    lead: str = ""


def rendered(template: str, **values: Any) -> Markup:
    """A template of this package; whatever is put into it is escaped unless it is ``Markup``."""
    return Markup(_environment().get_template(template).render(values))  # our own


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("gigassl.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def joined_parts(parts: Sequence[Markup]) -> Markup:
    """Parts below one another."""
    return Markup("\n").join(parts)


def paragraph(text: str) -> Markup:
    """A paragraph of plain text."""
    return Markup("<p>{}</p>").format(text)


def notes(lines: Sequence[str]) -> Markup:
    """Remarks as a small list; nothing where there are none."""
    return rendered("notes.html", lines=list(lines)) if lines else Markup("")


def heading(text: str) -> Markup:
    """A heading inside a section."""
    return Markup("<h3>{}</h3>").format(text)


def folded(title: str, body: Markup, *, is_open: bool = False) -> Markup:
    """Parts behind a title that opens and closes them."""
    return rendered("folded.html", title=title, body=body, is_open=is_open)


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str = "") -> Markup:
    """A table that scrolls in itself; columns of numbers stand to the right.

    Args:
        header: one text a column.
        rows: of as many cells as the header.
        caption: what is in it.
    """
    cells = [[cell_text(cell) for cell in row] for row in rows]
    numeric = [
        bool(cells) and all(_NUMBER.fullmatch(str(row[k])) for row in cells)
        for k in range(len(header))
    ]
    return rendered("table.html", header=list(header), rows=cells, numeric=numeric, caption=caption)


def cell_text(cell: Cell) -> str:
    """A cell as text; whole numbers with their thousands apart, others with four digits."""
    if cell is None:
        return _DASH
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4g}"


def facts(values: Mapping[str, Cell]) -> Markup:
    """Names and values, side by side."""
    return rendered("facts.html", values={k: cell_text(v) for k, v in values.items()})


def picture(data: bytes, *, kind: str = "jpeg", alt: str, caption: str = "") -> Markup:
    """A picture inside the page.

    Args:
        data: the file.
        kind: "jpeg" or "png".
        alt: what is on it, for who does not see it.
        caption: below it.
    """
    source = f"data:image/{kind};base64,{b64encode(data).decode()}"
    return rendered("picture.html", source=source, alt=alt, caption=caption)


def gallery(pictures: Sequence[Markup], *, side_px: int = 220) -> Markup:
    """Pictures side by side, in as many rows as the page's width wants.

    Args:
        pictures: of ``picture``.
        side_px: least width of each.
    """
    return rendered("gallery.html", pictures=list(pictures), side_px=side_px)
