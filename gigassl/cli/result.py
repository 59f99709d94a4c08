"""How a run ends on the command line: one line, or JSON, and the exit code."""

import json
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from gigassl.pipeline.embed import EmbedResult
    from gigassl.pipeline.encode_result import EncodeResult
    from gigassl.pipeline.pretrain_result import PretrainResult

EXIT_FAILURES, EXIT_INTERRUPTED = 1, 130


def finish(
    result: "EmbedResult | EncodeResult | PretrainResult", *, as_json: bool,
    alarm: str = "",
) -> NoReturn:  # fmt: skip
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


def finish_vectors(result: "EmbedResult", *, as_json: bool, allow_collapsed: bool) -> NoReturn:
    """Like ``finish``, with an alarm where the vectors have collapsed."""
    alarm = ""
    if result.quality is not None and result.quality.collapsed and not allow_collapsed:
        alarm = result.quality.alarm()
    finish(result, as_json=as_json, alarm=alarm)
