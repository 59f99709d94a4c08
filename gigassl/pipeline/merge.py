"""Merging the parts of a job array: tables and failures."""

from collections.abc import Sequence
from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.pipeline.embed_result import EmbedResult
from gigassl.pipeline.failures import failures_path, read_failures
from gigassl.pipeline.gate import quality_of
from gigassl.pipeline.outputs import claimed_output, keep_failures
from gigassl.pipeline.places import brought
from gigassl.stores import StoreSettings
from gigassl.vectors.merge import merge_tables
from gigassl.vectors.table import open_table, save_table


def merge(
    parts: Sequence[Path | str], out: Path | str, *, stores: StoreSettings | None = None
) -> EmbedResult:
    """One table of several, with the failures that no other part made good.

    Args:
        parts: paths or URLs of tables; ``*`` in a URL stands for any letters.
        stores: how URLs are reached.

    Raises:
        SettingsError: a part that is missing, or no part at all.
        GigasslError: parts of different settings, or a slide in two parts.
    """
    settings = stores or StoreSettings()
    with brought(parts, settings, beside=failures_path) as local:
        return _merged(local, out, settings)


def _merged(parts: Sequence[Path], out: Path | str, stores: StoreSettings) -> EmbedResult:
    missing = [str(path) for path in parts if not path.is_file()]
    if missing or not parts:
        raise SettingsError(f"no such part: {', '.join(missing) or '(none given)'}")
    with claimed_output(out, stores) as output:
        table = merge_tables([open_table(path) for path in parts])
        done = set(table.slide_ids)
        listed = [f for path in parts for f in read_failures(failures_path(path))]
        failures = tuple(f for f in listed if f.slide_id not in done)
        save_table(table, output.path)
        output.place.keep(output.path)
        keep_failures(failures, output)
    return EmbedResult(
        out=out, table=table, failures=failures, n_new=0, n_reused=len(done),
        quality=quality_of(table),
    )  # fmt: skip
