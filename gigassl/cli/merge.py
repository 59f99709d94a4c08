"""``gigassl merge``: the parts of a job array into one table."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli.result import finish

EXAMPLE = "Example: gigassl merge vectors.shard-*-of-8.parquet -o vectors.parquet"


def merge_command(
    parts: Annotated[list[Path], typer.Argument(help="Tables of the parts.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The Parquet file to write.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Merge the tables (and failures) of the parts of a job array.

    All parts must come from equal settings, and no slide may stand in two of them.
    """
    from gigassl.pipeline.merge import merge

    finish(merge(parts, out), as_json=json)
