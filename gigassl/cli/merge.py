"""``gigassl merge``: the parts of a job array into one table, or into one bank."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli import options as opt
from gigassl.cli.result import finish, finish_vectors

EXAMPLE = "Example: gigassl merge vectors.shard-*-of-8.parquet -o vectors.parquet"


def merge_command(
    parts: Annotated[list[Path], typer.Argument(help="Tables of the parts, or banks.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The Parquet file, or the bank's folder.")
    ],
    allow_collapsed: opt.AllowCollapsed = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Merge the tables or banks (and failures) of the parts of a job array.

    All parts must come from equal settings, and no slide may stand in two of them.
    """
    from gigassl.pipeline.bank_merge import merge_banks
    from gigassl.pipeline.merge import merge

    if all(part.is_dir() for part in parts):
        finish(merge_banks(parts, out), as_json=json)
    finish_vectors(merge(parts, out), as_json=json, allow_collapsed=allow_collapsed)
