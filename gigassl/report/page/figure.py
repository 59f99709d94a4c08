"""Plotly figures in a page: data that no label can break out of, drawn when they come into view."""

import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

import numpy as np
from markupsafe import Markup

from gigassl.errors import SettingsError
from gigassl.report.page.section import rendered

COLOURS = (
    "#4f78c4", "#e08a3c", "#3a9d78", "#c8558f", "#8b6bc4", "#c9503f", "#5fb0cf", "#a98f2f",
    "#7a8794", "#b3697a",
)  # fmt: skip
"""Colours of series, told apart on light and on dark."""

_BREAKING = {sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def figure(
    traces: Sequence[Mapping[str, Any]], *, layout: Mapping[str, Any] | None = None,
    caption: str = "", alt: str, height_px: int = 420,
) -> Markup:  # fmt: skip
    """A Plotly figure that follows light and dark, drawn when it comes into view.

    A string ``var(--accent)`` (or ``--text``, ``--muted``, ``--line``, ``--surface``) anywhere in
    traces or layout becomes that colour of the page. Texts out of data pass through ``plain_text``,
    because Plotly understands some HTML.

    Args:
        traces: as Plotly's ``data``: dictionaries of plain values, lists and numpy arrays.
        layout: as Plotly's ``layout``; fonts, background and grid come with the page.
        caption: below the figure.
        alt: what it shows, for who does not see it.
        height_px: of the drawing.
    """
    spec = {"data": list(traces), "layout": {"colorway": list(COLOURS), **(layout or {})}}
    return rendered(
        "figure.html", spec=page_json(spec), caption=caption, alt=alt, height_px=height_px
    )


def plain_text(text: str) -> str:
    """A text in which Plotly finds no HTML.

    >>> plain_text("<b>a</b> & b")
    '&lt;b&gt;a&lt;/b&gt; &amp; b'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def page_json(value: Any) -> Markup:
    r"""Values as JSON inside a script element that no text among them can end; NaN as null.

    >>> print(page_json({"a": "</script>"}))
    {"a":"\u003c/script\u003e"}
    """
    text = json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign, code in _BREAKING.items():
        text = text.replace(sign, code)
    return Markup(text)  # every sign that means something in HTML was replaced


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value


def plotly_script() -> str:
    """The source of plotly.js, once a page.

    Raises:
        SettingsError: Plotly is not installed.
    """
    needs("plotly")
    source = files("plotly") / "package_data" / "plotly.min.js"
    return source.read_text(encoding="utf-8")


def needs(*packages: str) -> None:
    """Refuses to begin where a package of the extra ``report`` is absent.

    Raises:
        SettingsError: it is not installed.
    """
    for package in lacking(*packages):
        raise SettingsError(
            f"gigassl report needs {package}, which is not installed; pip install 'gigassl[report]'"
        )


def lacking(*packages: str) -> list[str]:
    """Those of the packages that are not installed."""
    return [package for package in packages if find_spec(package) is None]
