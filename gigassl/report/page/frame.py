"""The page around the sections: one HTML file that asks nothing of the network."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files

from markupsafe import Markup

from gigassl.report.page.figure import plotly_script
from gigassl.report.page.section import Section, rendered

_STYLES = ("page.css", "map.css", "sections.css")
_SCRIPTS = ("page.js", "map.js", "sections.js")


def page(title: str, sections: Sequence[Section], *, lead: str = "") -> str:
    """One HTML file of sections, with styles and scripts inside.

    Only the scripts of this package run: the page names them by their digests, and forbids all
    others and every request (Content Security Policy).

    Args:
        title: of the page.
        sections: in their order.
        lead: what the page is of, below the title.

    Raises:
        SettingsError: Plotly is not installed.
    """
    scripts = [plotly_script(), *(_asset(name) for name in _SCRIPTS)]
    return str(
        rendered(
            "page.html",
            title=title,
            lead=lead,
            sections=list(sections),
            styles=[Markup(_asset(name)) for name in _STYLES],  # our own files
            scripts=[Markup(source) for source in scripts],  # ours and Plotly's
            policy=_policy(scripts),
        )
    )


def _asset(name: str) -> str:
    return (files("gigassl.report.page") / "assets" / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """What the page may do; Plotly compiles its WebGL drawing, hence 'unsafe-eval'."""
    digests = [b64encode(sha256(source.encode()).digest()).decode() for source in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; "
        "img-src data: blob: file: 'self'; form-action 'none'; base-uri 'none'"
    )
