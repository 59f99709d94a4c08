"""Merge: parts of one job, or shards of one cohort, become one table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gigassl.errors import GigasslError
from gigassl.vectors.table import COLUMN_NAMES, SlideTable, table_from_columns


def merge_tables(tables: Sequence[SlideTable]) -> SlideTable:
    """One table of all slides, the same whatever the order of the parts.

    The settings must be the same. Where the rest of the provenance differs (say, a job that was
    resumed after an update), the merged table keeps every variant under ``variants``.

    Raises:
        GigasslError: no tables, settings or widths that differ (names the field), a slide twice.
    """
    if not tables:
        raise GigasslError("no tables to merge")
    first = tables[0]
    for other in tables[1:]:
        _refuse_difference(first, other)
    data = pa.concat_tables([table.data for table in tables]).combine_chunks()
    return SlideTable(
        data=data, provenance=merged_provenance([table.provenance for table in tables])
    )


def chosen_rows(
    pieces: Sequence[tuple[pa.Table, Sequence[int]]], *, provenance: Mapping[str, Any]
) -> SlideTable:
    """One table of some rows of several; further columns are left out.

    Args:
        pieces: the data of a table, and the numbers of the rows wanted of it.

    Raises:
        GigasslError: no rows, widths or settings digests that differ, a slide twice.
    """
    if not pieces:
        raise GigasslError("no rows to make a table of")
    widths = sorted({data.schema.field("embedding").type.list_size for data, _ in pieces})
    if len(widths) > 1:
        raise GigasslError(f"the slides' vectors have different widths: {widths}")
    starts = np.cumsum([0, *(data.num_rows for data, _ in pieces)])
    rows = [np.asarray(rows) + start for (_, rows), start in zip(pieces, starts, strict=False)]
    wanted = np.concatenate(rows)
    names = _column("slide_id", pieces).take(pa.array(wanted)).to_pylist()
    order = pa.array(wanted[np.argsort(np.array(names, dtype=object), kind="stable")])
    columns = {name: _column(name, pieces).take(order) for name in COLUMN_NAMES}
    return table_from_columns(columns, provenance=provenance)


def _column(name: str, pieces: Sequence[tuple[pa.Table, Sequence[int]]]) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for data, _ in pieces for chunk in data[name].chunks])


def _refuse_difference(first: SlideTable, other: SlideTable) -> None:
    where = f"the tables of '{first.slide_ids[0]}' and '{other.slide_ids[0]}'"
    differing = differing_settings(first.provenance, other.provenance)
    if differing:
        said = ", ".join(f"{n} ({ours} and {theirs})" for n, (ours, theirs) in differing.items())
        raise GigasslError(
            f"{where} were made with different settings: {said}; embed again with the same"
        )
    if first.settings_digest != other.settings_digest:
        raise GigasslError(
            f"{where} have different settings digests ({first.settings_digest} and "
            f"{other.settings_digest}); embed again with the same settings"
        )
    if first.dim != other.dim:
        raise GigasslError(f"{where} hold vectors of different width: {first.dim} and {other.dim}")


def differing_settings(
    first: Mapping[str, Any], other: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Settings that differ between two provenances, by dotted name; None where one has none.

    >>> differing_settings({"settings": {"a": {"b": 1}}}, {"settings": {"a": {"b": 2}}})
    {'a.b': (1, 2)}
    """
    ours, theirs = (dict(_leaves(record.get("settings", {}))) for record in (first, other))
    names = sorted(ours.keys() | theirs.keys())
    pairs = {name: (ours.get(name), theirs.get(name)) for name in names}
    return {name: (left, right) for name, (left, right) in pairs.items() if left != right}


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def merged_provenance(provenances: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One provenance of several, whatever their order; where they differ, with every variant."""
    texts: set[str] = set()
    for provenance in provenances:
        # a part may itself be merged from variants
        kept = dict(provenance)
        for variant in kept.pop("variants", [kept]):
            texts.add(json.dumps(variant, sort_keys=True))
    variants = [json.loads(text) for text in sorted(texts)]
    return variants[0] if len(variants) == 1 else {**variants[0], "variants": variants}
