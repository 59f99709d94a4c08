"""What a search among some rows of a large table costs, against a plain matrix product.

    python -m benchmarks.search [--rows 1e6] [--index exact ivf] [--threads 1]

256 columns around 200 centres. "product": scores of all rows by ``vectors @ query``, those that may
not be found masked, the best k taken; what anyone would write. Each index answers the same queries
among the same rows: time a query, ratio to the product, recall@10 (share of the product's hits that
it found). Conditions are evaluated on a table of the same number of rows.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from benchmarks.report import line
from benchmarks.scale_runs import DIM, name_of, pieces
from gigassl.vectors.search import INDICES, Searcher
from gigassl.vectors.table import COLUMN_NAMES, SlideRow, SlideTable, one_row, table_from_columns
from gigassl.vectors.where import parse_where
from gigassl.vectors.where_columns import columns_of_table, rows_where

K, N_QUERIES = 10, 20
SHARES = (1.0, 0.5, 0.1, 0.01)
CONDITIONS = (
    "n_tiles > 500",
    "n_tiles > 500 and slide_id != 'x' or not (mpp in (0.25, 0.5))",
    "patient_id == 'TCGA-00-0000000000'",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--index", nargs="+", choices=sorted(INDICES), default=["exact", "ivf"])
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with threadpool_limits(limits=given.threads):
        measure(int(given.rows), indices=given.index)


def measure(n: int, *, indices: Sequence[str]) -> None:
    """Prints every number for a table of ``n`` rows."""
    table = table_of(n)
    for text in CONDITIONS:
        where = parse_where(text)
        begin = time.perf_counter()
        rows_where(where, columns_of_table(table))
        line(f"condition, {n:,} rows: {text[:30]}", 1e3 * (time.perf_counter() - begin), unit="ms")
    rng = np.random.default_rng(1)
    masks = {share: rng.random(n) < share for share in SHARES}
    queries = table.slide_ids[:: max(1, n // N_QUERIES)][:N_QUERIES]
    plain = {share: product(table, queries, among=among) for share, among in masks.items()}
    for share, (seconds, _) in plain.items():
        line(f"product, {share:.0%} of the rows", 1e3 * seconds, unit="ms a query")
    for index in indices:
        begin = time.perf_counter()
        searcher = Searcher(table, index=index)
        line(f"{index}, build", time.perf_counter() - begin, unit="s")
        for share, among in masks.items():
            against_product(searcher, queries, share=share, among=among, plain=plain[share])


def table_of(n: int) -> SlideTable:
    """A table whose numbers of tiles are spread from 0 to 1000."""
    vectors = np.concatenate(list(pieces(n)))
    row = SlideRow(
        slide_id="", patient_id="", file="x.svs", embedding=vectors[0], n_tiles=1, mpp=0.25,
        settings_digest="1",
    )  # fmt: skip
    like = one_row(row, provenance={}).data
    copies = pa.array(np.zeros(n, np.int64))
    columns = {name: like[name].take(copies) for name in COLUMN_NAMES if name != "embedding"}
    names = [name_of(k) for k in range(n)]
    columns["slide_id"] = pa.array(names)
    columns["patient_id"] = pa.array([name[:18] for name in names])
    columns["n_tiles"] = pa.array(np.random.default_rng(0).integers(0, 1000, n))
    flat = pa.array(vectors.ravel())
    kind = like.schema.field("embedding").type
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    assert vectors.shape[1] == DIM
    return table_from_columns(columns, provenance={})


def product(
    table: SlideTable, queries: Sequence[str], *, among: np.ndarray
) -> tuple[float, list[set[str]]]:
    """Seconds a query, and the hits of each."""
    vectors, names = np.ascontiguousarray(table.embeddings), table.slide_ids
    row_of = {name: row for row, name in enumerate(names)}
    found, begin = [], time.perf_counter()
    for query in queries:
        scores = vectors @ vectors[row_of[query]]
        scores[~among] = -np.inf
        scores[row_of[query]] = -np.inf
        found.append(np.argpartition(-scores, K)[:K])
    seconds = (time.perf_counter() - begin) / len(queries)
    return seconds, [{names[row] for row in rows} for rows in found]


def against_product(
    searcher: Searcher, queries: Sequence[str], *, share: float, among: np.ndarray,
    plain: tuple[float, list[set[str]]],
) -> None:  # fmt: skip
    """Prints the time of an index, its ratio to the product, and its recall."""
    begin = time.perf_counter()
    found = [searcher.nearest(query, k=K, among=among) for query in queries]
    seconds = (time.perf_counter() - begin) / len(queries)
    hits = sum(
        len(expected & {one.slide_id for one in given})
        for expected, given in zip(plain[1], found, strict=True)
    )
    where = f"{searcher.index}, {share:.0%} of the rows"
    line(where, 1e3 * seconds, unit="ms a query")
    line(f"{where}, against the product", seconds / plain[0], unit="x")
    line(f"{where}, recall@10", hits / (K * len(queries)), unit="")


if __name__ == "__main__":
    main()
