"""Tables of very many rows, made by the column."""

from typing import Any

import numpy as np
import pyarrow as pa

from gigassl.vectors.table import COLUMN_NAMES, SlideRow, SlideTable, one_row, table_from_columns


def large_table(vectors: Any, *, provenance: Any = None) -> SlideTable:
    """A table of float32 unit vectors, named in their order; all else is the same in each row."""
    row = SlideRow(
        slide_id="", patient_id="p", file="f", n_tiles=9, embedding=vectors[0], settings_digest="e"
    )
    like = one_row(row, provenance={}).data
    copies = pa.array(np.zeros(len(vectors), np.int64))
    columns = {name: like[name].take(copies) for name in COLUMN_NAMES if name != "embedding"}
    columns["slide_id"] = pa.array([f"s{number:07d}" for number in range(len(vectors))])
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(vectors).ravel()), type=like.schema.field("embedding").type
    )
    return table_from_columns(columns, provenance=provenance or {})
