"""Search: the slides whose vectors are nearest, exactly and in an order that never changes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from gigassl.errors import GigasslError, SettingsError
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.row import LENGTH_TOLERANCE
from gigassl.vectors.table import SlideTable

# the index computes in float32; what lies this close to the last neighbour is compared exactly
_MARGIN = 1e-5


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A slide near the query.

    Attributes:
        similarity: cosine, from -1 to 1.
    """

    slide_id: str
    patient_id: str
    similarity: float


def nearest(
    table: SlideTable,
    query: str | Float[np.ndarray, " dim"],
    *,
    k: int = 10,
    exclude_patient: bool = False,
) -> list[Neighbour]:
    """The ``k`` slides most similar to a slide of the table or to a vector, nearest first.

    Equal similarities are ordered by slide_id. The query slide itself is never among them.

    Args:
        table: slides to search.
        query: a slide_id, or a vector (brought to length one).
        k: how many; fewer where the table holds fewer.
        exclude_patient: leave out all slides of the query slide's patient.

    Raises:
        SettingsError: unknown slide_id, k below 1, wrong width, or a patient excluded for a vector.
        GigasslError: the table's vectors are not of length one.
    """
    searcher = _Searcher(table, k=k)
    if isinstance(query, str):
        vector = table.vector(query)
        row = table.slide_ids.index(query)
        return searcher.nearest(vector, skipped=searcher.own(row, patient=exclude_patient))
    if exclude_patient:
        raise SettingsError("excluding the patient needs a slide_id as the query, not a vector")
    if len(query) != table.dim:
        raise SettingsError(f"the query is {len(query)} wide, the table's vectors {table.dim}")
    return searcher.nearest(l2_normalised(query), skipped=np.empty(0, np.int64))


def all_nearest(
    table: SlideTable, *, k: int = 10, exclude_patient: bool = False
) -> dict[str, list[Neighbour]]:
    """The ``k`` nearest slides of every slide, by slide_id; as ``nearest`` for each.

    Raises:
        SettingsError: k below 1.
        GigasslError: the table's vectors are not of length one.
    """
    searcher = _Searcher(table, k=k)
    return {
        slide_id: searcher.nearest(vector, skipped=searcher.own(row, patient=exclude_patient))
        for row, (slide_id, vector) in enumerate(
            zip(table.slide_ids, table.embeddings, strict=True)
        )
    }


class _Searcher:
    """An exact index over a table, built once for any number of queries."""

    def __init__(self, table: SlideTable, *, k: int) -> None:
        import faiss

        if k < 1:
            raise SettingsError(f"k, the number of neighbours, must be at least 1; got {k}")
        self.k = k
        self.slide_ids, self.patient_ids = table.slide_ids, table.patient_ids
        self.patient_codes = np.unique(np.array(self.patient_ids), return_inverse=True)[1]
        self.vectors = table.embeddings
        lengths = np.linalg.norm(self.vectors, axis=1)
        if not (np.abs(lengths - 1) <= LENGTH_TOLERANCE).all():
            worst = int(np.abs(lengths - 1).argmax())
            raise GigasslError(
                f"slide '{self.slide_ids[worst]}': its vector has length {lengths[worst]:.4g}, "
                "not 1; cosine similarity needs normalised vectors"
            )
        self.index: Any = faiss.IndexFlatIP(table.dim)
        self.index.add(np.ascontiguousarray(self.vectors))

    def own(self, row: int, *, patient: bool) -> Int64[np.ndarray, " skipped"]:
        """Rows that a query slide must not find: its own, or all of its patient."""
        if not patient:
            return np.array([row])
        return np.flatnonzero(self.patient_codes == self.patient_codes[row])

    def nearest(
        self, vector: Float32[np.ndarray, " dim"], *, skipped: Int64[np.ndarray, " skipped"]
    ) -> list[Neighbour]:
        """Neighbours by exact similarity, then by row, which is the order of slide_ids."""
        k = min(self.k, len(self.slide_ids) - len(skipped))
        if k == 0:
            return []
        rows = self._candidates(vector, skipped=skipped, k=k)
        exact = self._similarities(vector, rows=rows)
        order = np.lexsort((rows, -exact))[:k]
        return [
            Neighbour(
                slide_id=self.slide_ids[rows[i]],
                patient_id=self.patient_ids[rows[i]],
                similarity=float(np.clip(exact[i], -1.0, 1.0)),
            )
            for i in order
        ]

    def _candidates(
        self,
        vector: Float32[np.ndarray, " dim"],
        *,
        skipped: Int64[np.ndarray, " skipped"],
        k: int,
    ) -> Int64[np.ndarray, " row"]:
        """All rows that may be among the k nearest: no tie at the end is cut off."""
        total = len(self.slide_ids)
        fetched = min(total, k + len(skipped) + 1)
        while True:
            found = self.index.search(vector[None], fetched)
            similarities, rows = found[0][0], found[1][0]
            kept = ~np.isin(rows, skipped)
            last = similarities[kept][k - 1] - _MARGIN
            if fetched == total or similarities[-1] < last:
                near: Int64[np.ndarray, " row"] = rows[kept & (similarities >= last)]
                return near
            fetched = min(total, 2 * fetched)

    def _similarities(
        self, vector: Float32[np.ndarray, " dim"], *, rows: Int64[np.ndarray, " row"]
    ) -> Float64[np.ndarray, " row"]:
        # row by row, so that equal vectors have equal similarities wherever they stand
        products = self.vectors[rows].astype(np.float64) * vector.astype(np.float64)
        similarities: Float64[np.ndarray, " row"] = products.sum(axis=1)
        return similarities
