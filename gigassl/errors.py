"""What can go wrong with data, as sentences that say what was given, expected and to do next."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial
from typing import Literal

_MOST_LISTED = 60
_MOST_SAID = 2000
_END = _MOST_SAID // 2

Stage = Literal["fetch", "open", "resolution", "tissue", "grid", "read", "encode", "bag"]


class GigasslError(Exception):
    """A problem of the data, the settings or the machine; its text is written for the user."""

    def __str__(self) -> str:
        """The text; of one that repeats a book that stood where a name was expected, the ends."""
        text = super().__str__()
        return text if len(text) <= _MOST_SAID else f"{text[:_END]} … {text[-_END:]}"


class SettingsError(GigasslError, ValueError):
    """A setting that cannot be used: unknown name, value out of range, contradiction."""


class SlideError(GigasslError):
    """One slide (or bag) cannot be used; the run goes on and lists it among the failures.

    Attributes:
        stage: where in the pipeline it failed.
        reason: one sentence for the failures file, without the slide's name.
        detail: what the underlying library said, empty where the reason says all.
    """

    def __init__(self, reason: str, *, stage: Stage, detail: str = "") -> None:
        detail = " ".join(detail.split())  # some libraries answer in paragraphs
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.stage = stage
        self.detail = detail

    def __reduce__(self) -> tuple[Callable[..., "SlideError"], tuple[str]]:
        # it travels between processes: without this it would be rebuilt of its text alone
        return partial(SlideError, stage=self.stage, detail=self.detail), (self.reason,)


def unknown_name(kind: str, given: str, *, known: Iterable[str]) -> SettingsError:
    """The error for a name that is not in a table: lists the choices and guesses the typo.

    >>> str(unknown_name("slide encoder", "maen", known=["mean", "max"]))
    "unknown slide encoder 'maen'; did you mean 'mean'? known: max, mean"
    """
    names = sorted(known)
    close = get_close_matches(given, names, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ";"
    # timm alone knows more than a thousand
    choices = ", ".join(names) if len(names) <= _MOST_LISTED else f"{len(names)} names"
    return SettingsError(f"unknown {kind} '{given}'{guess} known: {choices}")
