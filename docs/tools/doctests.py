"""Shows the doctests of docstrings as code: Markdown would take ``>>>`` for a quotation."""

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"(?:^>>> .*\n?(?:^(?!\s*$).*\n?)*)", flags=re.MULTILINE)


def fenced(docstring: str) -> str:
    """The text with each doctest as a fenced block."""
    return _DOCTEST.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", docstring).rstrip()


class Doctests(griffe.Extension):
    """Called by mkdocstrings for whatever it reads."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrites a docstring that holds a doctest."""
        if obj.docstring and ">>> " in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)
