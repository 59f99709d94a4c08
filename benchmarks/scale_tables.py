"""Growth of what is done with a table with its number of rows: reading, searching, probing."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.scale_runs import DIM, Numbers, in_child, name_of, peak_mb, pieces
from gigassl.evaluate.logistic import LogisticProblems, row_weights, solve_logistic
from gigassl.vectors.search import Neighbour, Searcher
from gigassl.vectors.table import (
    COLUMN_NAMES,
    SlideRow,
    SlideTable,
    one_row,
    open_table,
    save_table,
    table_from_columns,
)

K = 10
N_QUERIES = 50
HNSW_ROWS = 100_000


def table_growth(folder: Path, n: int) -> Numbers:
    """Writes a table of ``n`` rows; reads, searches and probes it in processes of their own."""
    folder.mkdir()
    try:
        found = in_child(_written, folder, n)
        for work in (_read, _searched, _probed):
            found |= in_child(work, folder, n)
        return found
    finally:
        shutil.rmtree(folder)


def _written(folder: Path, n: int) -> Numbers:
    vectors = np.empty((n, DIM), np.float32)
    start = 0
    for piece in pieces(n):
        vectors[start : start + len(piece)] = piece
        start += len(piece)
    row = SlideRow(
        slide_id="", patient_id="", file="x.svs", embedding=vectors[0], n_tiles=1,
        settings_digest="1",
    )  # fmt: skip
    like = one_row(row, provenance={}).data
    names = [name_of(k) for k in range(n)]
    copies = pa.array(np.zeros(n, np.int64))
    columns = {name: like[name].take(copies) for name in COLUMN_NAMES if name != "embedding"}
    columns["slide_id"] = pa.array(names)
    columns["patient_id"] = pa.array([name[:15] for name in names])
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.ravel()), type=like.schema.field("embedding").type
    )
    save_table(table_from_columns(columns, provenance={}), folder / "v.parquet")
    return {}


def _read(folder: Path, n: int) -> Numbers:
    before, begin = peak_mb(), time.perf_counter()
    table = open_table(folder / "v.parquet")
    spent = time.perf_counter() - begin
    assert len(table) == n
    return {"read, s": spent, "read, MB grown": peak_mb() - before}


def _searched(folder: Path, n: int) -> Numbers:
    table = open_table(folder / "v.parquet")
    queries = table.slide_ids[:: max(1, n // N_QUERIES)][:N_QUERIES]
    Searcher(table, index="exact")  # loads the library
    found, expected = _timed(table, queries, index="exact")
    for index in ("ivf", "hnsw") if n <= HNSW_ROWS else ("ivf",):
        numbers, given = _timed(table, queries, index=index)
        hits = sum(len(set(a) & set(b)) for a, b in zip(expected, given, strict=True))
        found |= {**numbers, f"{index}, recall@10": hits / sum(map(len, expected))}
    return found


def _timed(
    table: SlideTable, queries: Sequence[str], *, index: str
) -> tuple[Numbers, list[list[Neighbour]]]:
    before, begin = peak_mb(), time.perf_counter()
    searcher = Searcher(table, index=index)
    built = time.perf_counter()
    answers = [searcher.nearest(query, k=K, exclude_patient=True) for query in queries]
    ended = time.perf_counter()
    numbers = {
        f"{index}, build s": built - begin,
        f"{index}, ms a query": 1e3 * (ended - built) / len(queries),
        f"{index}, MB grown": peak_mb() - before,
    }
    return numbers, answers


def _probed(folder: Path, n: int) -> Numbers:
    """One logistic regression at C = 1 on all rows, two classes of equal size."""
    rows = open_table(folder / "v.parquet").embeddings
    score = rows @ np.random.default_rng(1).standard_normal(DIM).astype(np.float32)
    labels = (score + score.std() * np.random.default_rng(2).logistic(size=n) > 0).astype(np.int64)
    weights = row_weights(labels, np.arange(n), balanced=True)
    zero = np.zeros(1, np.int64)
    problems = LogisticProblems(
        n_classes=2, labels=labels[None], weights=weights[None], penalties=np.ones((1, DIM)),
        label_of=zero, weight_of=zero, penalty_of=zero, strengths=np.ones(1),
    )  # fmt: skip
    begin = time.perf_counter()
    solve_logistic(rows, problems)
    return {"probe at C = 1, s": time.perf_counter() - begin}
