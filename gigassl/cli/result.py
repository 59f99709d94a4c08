"""How a run ends on the command line: one line, or JSON, and the exit code."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, runtime_checkable

import typer

if TYPE_CHECKING:
    from gigassl.pipeline.embed_result import EmbedResult

EXIT_FAILURES, EXIT_INTERRUPTED = 1, 130


@runtime_checkable
class Result(Protocol):
    """What a run did, as every command ends with it."""

    @property
    def failures(self) -> Sequence[object]:
        """What could not be used."""

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped it."""

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""

    def sentence(self) -> str:
        """The result in one or a few lines."""


def finish(result: Result, *, as_json: bool, alarm: str = "") -> NoReturn:
    """Prints what a run did and exits: 0 all done, 1 with failures, 130 interrupted.

    Args:
        alarm: what is wrong with the whole result, in red; the exit code is then 1.
    """
    if as_json:
        typer.echo(json.dumps(result.summary(), indent=2))
    else:
        typer.echo(result.sentence())
    if result.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if alarm:
        typer.secho(f"gigassl: {alarm}", fg="red", err=True)
    raise typer.Exit(EXIT_FAILURES if result.failures or alarm else 0)


def finish_training(result: Result, *, as_json: bool, alarm: str = "") -> NoReturn:
    """Like ``finish``; of processes that share a training, the first on a machine speaks.

    The others end quietly with 0: with any other code Lightning, which started them, would kill the
    first one while it still writes.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        raise typer.Exit(0)
    finish(result, as_json=as_json, alarm=alarm)


def finish_vectors(result: "EmbedResult", *, as_json: bool, allow_collapsed: bool) -> NoReturn:
    """Like ``finish``, with an alarm where the vectors have collapsed."""
    alarm = ""
    if result.quality is not None and result.quality.collapsed and not allow_collapsed:
        alarm = result.quality.alarm()
    finish(result, as_json=as_json, alarm=alarm)
