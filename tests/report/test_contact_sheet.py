"""Contact sheets: pictures and facts in their places, long names, nothing that a label can do."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gigassl.report.contact_sheet import PICTURE_PX, Card, save_contact_sheet

RED, BLUE = (220, 20, 20), (20, 20, 220)


def picture(colour: tuple[int, int, int], *, height: int = 100) -> np.ndarray:
    found = np.empty((height, PICTURE_PX, 3), dtype=np.uint8)
    found[:] = colour
    return found


def cards(n: int) -> list[Card]:
    query = Card(title="the query", lines=("query",), picture=picture(RED, height=PICTURE_PX))
    hits = [
        Card(title="n" * 90 + str(k), lines=(f"{k}: similarity", "größer als μ"),
             picture=picture(BLUE))
        for k in range(n - 2)
    ]  # fmt: skip
    return [query, *hits, Card(title="lost", lines=(), why_none="no file of that name " * 9)]


@pytest.mark.parametrize("n", [2, 3, 12])
def test_pictures_stand_in_their_order(tmp_path: Path, n: int) -> None:
    save_contact_sheet(cards(n), tmp_path / "sheet.png", title="t" * 300)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(np.int64)
    red, blue = ((pixels == colour).all(axis=2) for colour in (RED, BLUE))
    assert red.sum() == PICTURE_PX**2
    assert blue.sum() == (n - 2) * 100 * PICTURE_PX
    if n > 2:
        first_row = blue[: PICTURE_PX + 56]
        assert np.argwhere(red)[:, 1].max() < np.argwhere(first_row)[:, 1].min(), "query first"
    framed = (pixels == (200, 90, 0)).all(axis=2)
    assert np.argwhere(framed).max(axis=0)[1] < PICTURE_PX + 40, "only the query is framed"


def test_a_page_holds_all_it_shows_and_labels_are_no_markup(tmp_path: Path) -> None:
    evil = '"><img src=x onerror=alert(1)><script>alert(2)</script>{title}'
    odd = Card(title=evil, lines=(evil,), picture=picture(BLUE))
    gone = Card(title="x", lines=(), why_none=evil)
    save_contact_sheet([*cards(3), odd, gone], tmp_path / "s.html", title=evil)
    page = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "onerror=alert(1)>" not in page
    assert page.count('class="query"') == 1
    assert "default-src 'none'" in page
    start = page.index("base64,") + len("base64,")
    with Image.open(BytesIO(b64decode(page[start : page.index('"', start)]))) as first:
        assert first.size == (PICTURE_PX, PICTURE_PX)


@pytest.mark.parametrize("name", ["s.png", "s.html"])
def test_equal_cards_give_equal_bytes(tmp_path: Path, name: str) -> None:
    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        save_contact_sheet(cards(4), folder / name, title="t")
        found.append((folder / name).read_bytes())
    assert found[0] == found[1]
