"""Contact sheet: pictures of slides side by side, each with its name and facts, as PNG or HTML."""

import html
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from gigassl.files import written_whole

PICTURE_PX = 320
"""Longest side of a picture."""

_COLUMNS, _GAP_PX, _LINE_PX, _TITLE_PX, _FRAME_PX = 5, 20, 22, 56, 4
_INK, _SOFT, _FRAME = (20, 20, 20), (90, 90, 90), (200, 90, 0)
_JPEG_QUALITY = 88


@dataclass(frozen=True, kw_only=True)
class Card:
    """One slide of a sheet.

    Attributes:
        title: its name.
        lines: facts below it.
        picture: of at most ``PICTURE_PX``; None where there is none.
        why_none: what stands in its place.
    """

    title: str
    lines: tuple[str, ...]
    picture: UInt8[np.ndarray, "row col 3"] | None = None
    why_none: str = ""


def save_contact_sheet(cards: Sequence[Card], path: Path, *, title: str) -> None:
    """Writes the cards in their order, the first one framed: the query.

    Args:
        cards: at least one.
        path: ``.png``, or ``.html`` for one file with everything inside that needs no network.
        title: stands above.

    Raises:
        MachineError: it cannot be written.
    """
    with written_whole(path) as part:
        if path.suffix.lower() == ".html":
            part.write_text(_as_html(cards, title=title), encoding="utf-8")
        else:
            _as_image(cards, title=title).save(part, "PNG")


def _as_image(cards: Sequence[Card], *, title: str) -> Image.Image:
    n_lines = 1 + max(len(card.lines) for card in cards)
    width = PICTURE_PX + _GAP_PX
    height = PICTURE_PX + n_lines * _LINE_PX + 2 * _GAP_PX
    across = min(_COLUMNS, len(cards))
    down = -(-len(cards) // across)
    size = (max(across, 2) * width + _GAP_PX, _TITLE_PX + down * height)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP_PX, 14), _cut(title, _font(22), width_px=size[0] - 2 * _GAP_PX), fill=_INK,
             font=_font(22))  # fmt: skip
    for number, card in enumerate(cards):
        row, col = divmod(number, across)
        corner = (_GAP_PX + col * width, _TITLE_PX + row * height)
        _draw(sheet, card, corner=corner, framed=number == 0)
    return sheet


def _draw(sheet: Image.Image, card: Card, *, corner: tuple[int, int], framed: bool) -> None:
    left, top = corner
    pen, small = ImageDraw.Draw(sheet), _font(15)
    if card.picture is None:
        pen.rectangle((left, top, left + PICTURE_PX, top + PICTURE_PX), fill=(238, 238, 238))
        said = _cut(card.why_none, small, width_px=PICTURE_PX - 24)
        pen.text((left + 12, top + PICTURE_PX // 2), said, fill=_SOFT, font=small)
    else:
        picture = Image.fromarray(card.picture)
        place = (left + (PICTURE_PX - picture.width) // 2, top + (PICTURE_PX - picture.height) // 2)
        sheet.paste(picture, place)
    if framed:
        edge = (left - _FRAME_PX - 2, top - _FRAME_PX - 2,
                left + PICTURE_PX + _FRAME_PX + 2, top + PICTURE_PX + _FRAME_PX + 2)  # fmt: skip
        pen.rectangle(edge, outline=_FRAME, width=_FRAME_PX)
    lower = top + PICTURE_PX + _FRAME_PX + 6
    title = _cut(card.title, _font(17), width_px=PICTURE_PX)
    pen.text((left, lower), title, fill=_INK, font=_font(17))
    for number, line in enumerate(card.lines, start=1):
        said = _cut(line, small, width_px=PICTURE_PX)
        pen.text((left, lower + number * _LINE_PX), said, fill=_SOFT, font=small)


def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font has Latin letters only
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _cut(text: str, font: ImageFont.FreeTypeFont, *, width_px: int) -> str:
    """As much of one line as there is room for; names keep their ends, which tell them apart."""
    text = " ".join(text.split())
    if font.getlength(text) <= width_px:
        return text
    kept = len(text)
    while kept > 2 and font.getlength(_middle_out(text, kept)) > width_px:
        kept -= 1
    return _middle_out(text, kept)


def _middle_out(text: str, kept: int) -> str:
    last = kept // 2
    return f"{text[: kept - last]}…{text[len(text) - last :]}"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #14171a; --soft: #5b6169; --paper: #fff; --box: #eee;
 --frame: #c85a00; }}
@media (prefers-color-scheme: dark) {{
 :root {{ --ink: #eceff1; --soft: #a7afb7; --paper: #16181b; --box: #2a2d31; --frame: #ff9d4d; }}
}}
body {{ font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
 margin: 24px; }}
h1 {{ font-size: 20px; font-weight: 600; overflow-wrap: anywhere; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 20px; }}
figure {{ margin: 0; }}
.picture {{ height: {side}px; max-height: 70vw; display: grid; place-items: center;
 background: var(--box); border-radius: 6px; }}
.query .picture {{ outline: 4px solid var(--frame); }}
img {{ max-width: 100%; max-height: 100%; }}
figcaption {{ margin-top: 8px; overflow-wrap: anywhere; color: var(--soft); }}
figcaption b {{ color: var(--ink); }}
</style>
</head>
<body>
<h1>{title}</h1>
<main>
{cards}
</main>
</body>
</html>
"""


def _as_html(cards: Sequence[Card], *, title: str) -> str:
    figures = [_figure(card, query=number == 0) for number, card in enumerate(cards)]
    return _PAGE.format(title=html.escape(title), side=PICTURE_PX, cards="\n".join(figures))


def _figure(card: Card, *, query: bool) -> str:
    title = html.escape(card.title)
    lines = "".join(f"<br>{html.escape(line)}" for line in card.lines)
    shown = f"<span>{html.escape(card.why_none)}</span>"
    if card.picture is not None:
        jpeg = BytesIO()
        Image.fromarray(card.picture).save(jpeg, "JPEG", quality=_JPEG_QUALITY)
        data = b64encode(jpeg.getvalue()).decode()
        shown = f'<img alt="{title}" src="data:image/jpeg;base64,{data}">'
    kind = ' class="query"' if query else ""
    return (
        f'<figure{kind}><div class="picture">{shown}</div>'
        f"<figcaption><b>{title}</b>{lines}</figcaption></figure>"
    )
