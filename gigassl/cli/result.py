"""How a run ends on the command line: one line, or JSON, and the exit code."""

import json
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from gigassl.pipeline.bank import BankResult
    from gigassl.pipeline.embed import EmbedResult
    from gigassl.pipeline.encode import EncodeResult

EXIT_FAILURES, EXIT_INTERRUPTED = 1, 130


def finish(result: "BankResult | EmbedResult | EncodeResult", *, as_json: bool) -> NoReturn:
    """Prints what a run did and exits: 0 all done, 1 with failures, 130 interrupted."""
    if as_json:
        typer.echo(json.dumps(result.summary(), indent=2))
    else:
        typer.echo(result.sentence())
    if result.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(EXIT_FAILURES if result.failures else 0)
