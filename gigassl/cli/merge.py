"""``gigassl merge``: the parts of a job array into one table, or into one bank."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli import options as opt
from gigassl.cli.result import finish, finish_vectors

EXAMPLE = "Example: gigassl merge vectors.shard-*-of-8.parquet -o vectors.parquet"


def merge_command(
    parts: Annotated[list[str], typer.Argument(help="Tables of the parts, or banks; or URLs.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="The Parquet file or its URL, or the bank's folder.")
    ],
    storage_options: opt.StorageOptions = None,
    cache_dir: opt.CacheDir = None,
    allow_collapsed: opt.AllowCollapsed = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Merge the tables or banks (and failures) of the parts of a job array.

    All parts must come from equal settings, and no slide may stand in two of them.
    """
    from gigassl.pipeline.bank_merge import merge_banks
    from gigassl.pipeline.merge import merge
    from gigassl.urls import place_of

    folders = [Path(part) for part in parts]
    if all(folder.is_dir() for folder in folders):
        finish(merge_banks(folders, Path(out)), as_json=json)
    stores = opt.store_settings(storage_options, cache_dir=cache_dir)
    result = merge([place_of(part) for part in parts], place_of(out), stores=stores)
    finish_vectors(result, as_json=json, allow_collapsed=allow_collapsed)
