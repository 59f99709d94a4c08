"""Search: the slides whose vectors are nearest, in an order that never changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from threadpoolctl import threadpool_limits

from gigassl.errors import GigasslError, SettingsError, unknown_name
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.row import LENGTH_TOLERANCE
from gigassl.vectors.search_similarity import FEW, MARGIN, best_of_rows, exact_similarities
from gigassl.vectors.table import SlideTable

EXACT_ROWS = 200_000
"""Up to so many rows, "auto" compares a query with all of them."""
EXACT_QUERIES = 250
"""Up to so many queries, "auto" does so however many rows there are: building an index takes longer
(of 10⁶ × 256 numbers as long as 275 to 394 queries; see docs/scale.md)."""

_SEED = 0


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
    table: SlideTable, query: str | Float[np.ndarray, " dim"], *, k: int = 10,
    exclude_patient: bool = False, among: Bool[np.ndarray, " slide"] | None = None,
    index: str = "auto",
) -> list[Neighbour]:  # fmt: skip
    """The ``k`` slides most similar to a slide of the table or to a vector, nearest first.

    Equal similarities are ordered by slide_id. The query slide itself is never among them. For
    many queries, ``Searcher`` builds its index once.

    Args:
        table: slides to search.
        query: a slide_id, or a vector (brought to length one).
        k: how many; fewer where the table holds fewer.
        exclude_patient: leave out all slides of the query slide's patient.
        among: which rows may be found; None: all. The ``k`` are counted among these.
        index: one of ``INDICES`` or "auto" (see ``Searcher``).

    Raises:
        SettingsError: unknown slide_id or index, k below 1, wrong width, ``among`` of another
            length than the table, or a patient excluded for a vector.
        GigasslError: the table's vectors are not of length one.
    """
    searcher = Searcher(table, index=index, n_queries=1)
    return searcher.nearest(query, k=k, exclude_patient=exclude_patient, among=among)


def all_nearest(
    table: SlideTable, *, k: int = 10, exclude_patient: bool = False, index: str = "auto"
) -> dict[str, list[Neighbour]]:
    """The ``k`` nearest slides of every slide, by slide_id; as ``nearest`` for each.

    Raises:
        SettingsError: k below 1, or unknown index.
        GigasslError: the table's vectors are not of length one.
    """
    searcher = Searcher(table, index=index, n_queries=len(table))
    return {
        slide_id: searcher.nearest(slide_id, k=k, exclude_patient=exclude_patient)
        for slide_id in table.slide_ids
    }


class Searcher:
    """A table and its index, for any number of queries.

    "exact" compares a query with every row. "ivf" looks into the nearest of about √n groups of rows
    (inverted file); "hnsw" follows a graph of neighbours (Malkov & Yashunin, arXiv 1603.09320).
    These two may miss a few neighbours; what they find is compared and ordered as exactly as
    otherwise, and leaving out rows never leaves fewer than ``k``. Equal tables give equal
    answers. "ivf" is built on all cores, "hnsw" on one, since threads would link it by chance.

    Attributes:
        index: name of the index that "auto" stands for: "exact" for ``EXACT_ROWS`` rows or
            ``EXACT_QUERIES`` queries, else "ivf".

    Raises:
        SettingsError: unknown index.
        GigasslError: the table's vectors are not of length one.
    """

    def __init__(
        self, table: SlideTable, *, index: str = "auto", n_queries: int | None = None
    ) -> None:
        self.index = _chosen(index, n_rows=len(table), n_queries=n_queries)
        self.slide_ids, self.patient_ids = table.slide_ids, table.patient_ids
        self.vectors = np.ascontiguousarray(table.embeddings)
        self._row_of = {slide_id: row for row, slide_id in enumerate(self.slide_ids)}
        number_of = {name: number for number, name in enumerate(dict.fromkeys(self.patient_ids))}
        self._patients = np.array([number_of[name] for name in self.patient_ids])
        self._refuse_lengths()
        self._look = INDICES[self.index](self.vectors)
        self._look_at_few = _exact(self.vectors)

    def _refuse_lengths(self) -> None:
        lengths = np.sqrt(np.einsum("sd,sd->s", self.vectors, self.vectors))
        if not (np.abs(lengths - 1) <= LENGTH_TOLERANCE).all():
            worst = int(np.abs(lengths - 1).argmax())
            raise GigasslError(
                f"slide '{self.slide_ids[worst]}': its vector has length {lengths[worst]:.4g}, "
                "not 1; cosine similarity needs normalised vectors"
            )

    def nearest(
        self, query: str | Float[np.ndarray, " dim"], *, k: int = 10, exclude_patient: bool = False,
        among: Bool[np.ndarray, " slide"] | None = None,
    ) -> list[Neighbour]:  # fmt: skip
        """The ``k`` slides most similar, as the function ``nearest``."""
        if k < 1:
            raise SettingsError(f"k, the number of neighbours, must be at least 1; got {k}")
        if among is not None and len(among) != len(self.slide_ids):
            raise SettingsError(
                f"among says of {len(among)} rows whether they may be found; the table has "
                f"{len(self.slide_ids)}"
            )
        if isinstance(query, str):
            if query not in self._row_of:
                raise unknown_name("slide", query, known=self.slide_ids)
            row = self._row_of[query]
            own = self._patients == self._patients[row]
            skipped = np.flatnonzero(own) if exclude_patient else np.array([row])
            return self._nearest(self.vectors[row], k=k, skipped=skipped, among=among)
        if exclude_patient:
            raise SettingsError("excluding the patient needs a slide_id as the query, not a vector")
        dim = self.vectors.shape[1]
        if len(query) != dim:
            raise SettingsError(f"the query is {len(query)} wide, the table's vectors {dim}")
        nothing = np.empty(0, np.int64)
        return self._nearest(l2_normalised(query), k=k, skipped=nothing, among=among)

    def _nearest(
        self, vector: Float32[np.ndarray, " dim"], *, k: int,
        skipped: Int64[np.ndarray, " skipped"], among: Bool[np.ndarray, " slide"] | None,
    ) -> list[Neighbour]:  # fmt: skip
        """Neighbours by exact similarity, then by row, which is the order of slide_ids."""
        if among is None:
            n_left = len(self.slide_ids) - len(skipped)
        else:
            among = among.copy()
            among[skipped] = False
            n_left, skipped = int(among.sum()), skipped[:0]
        k = min(k, n_left)
        if k == 0:
            return []
        rows = self._candidates(vector, k=k, skipped=skipped, among=among)
        exact = exact_similarities(self.vectors, vector, rows=rows)
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
        self, vector: Float32[np.ndarray, " dim"], *, k: int,
        skipped: Int64[np.ndarray, " skipped"], among: Bool[np.ndarray, " slide"] | None,
    ) -> Int64[np.ndarray, " row"]:  # fmt: skip
        """All rows that may be among the k nearest: no tie at the end is cut off."""
        total = len(self.slide_ids) if among is None else int(among.sum())
        look = self._look_at_few if total <= FEW * len(self.slide_ids) else self._look
        fetched, effort = min(total, k + len(skipped) + 1), 1
        while True:
            similarities, rows = look(vector, _Wish(fetched, effort, among))
            kept: Bool[np.ndarray, " found"] = ~np.isin(rows, skipped)
            if kept.sum() >= k:
                last = similarities[kept][k - 1] - MARGIN
                if len(rows) < fetched or fetched == total or similarities[-1] < last:
                    near: Int64[np.ndarray, " row"] = rows[kept & (similarities >= last)]
                    return near
            fetched, effort = min(total, 2 * fetched), 2 * effort


def _chosen(index: str, *, n_rows: int, n_queries: int | None) -> str:
    if index not in {"auto", *INDICES}:
        raise unknown_name("index", index, known=("auto", *INDICES))
    few = n_rows <= EXACT_ROWS or (n_queries is not None and n_queries <= EXACT_QUERIES)
    return ("exact" if few else "ivf") if index == "auto" else index


class _Wish(NamedTuple):
    """How many rows to find, how hard to look, and which rows count (None: all).

    Twice the effort costs about twice the time; enough of it finds as many rows as are asked for.
    """

    wanted: int
    effort: int
    among: Bool[np.ndarray, " slide"] | None


_Found = tuple[Float32[np.ndarray, " found"], Int64[np.ndarray, " found"]]
_Vectors = Float32[np.ndarray, "slide dim"]
_Look = Callable[[Float32[np.ndarray, " dim"], _Wish], _Found]
"""Similarities and rows nearest a query, best first."""


def _faiss() -> Any:
    """FAISS, whose stubs lack some of what it has."""
    import faiss

    return faiss


def _exact(vectors: _Vectors) -> _Look:
    faiss = _faiss()

    def look(query: Float32[np.ndarray, " dim"], wish: _Wish) -> _Found:
        if wish.among is not None:
            rows = np.flatnonzero(wish.among)
            return best_of_rows(vectors, query, rows=rows, wanted=wish.wanted)
        # on the table's own memory: an index would copy it
        metric = faiss.METRIC_INNER_PRODUCT
        return _first(*faiss.knn(query[None], vectors, wish.wanted, metric=metric))

    return look


def _inverted_file(vectors: _Vectors) -> _Look:
    faiss = _faiss()
    n_groups = max(1, round(len(vectors) ** 0.5))
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(
        quantizer, vectors.shape[1], n_groups, faiss.METRIC_INNER_PRODUCT
    )  # fmt: skip
    # groups from a sample: k-means on all rows would take longest of all
    index.cp.seed, index.cp.niter = _SEED, 10
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, 64
    index.train(vectors)
    index.add(vectors)
    at_first = max(16, n_groups // 16)

    def look(query: Float32[np.ndarray, " dim"], wish: _Wish) -> _Found:
        parameters = faiss.SearchParametersIVF(
            nprobe=min(n_groups, at_first * wish.effort), sel=_selector(wish)
        )
        return _first(*index.search(query[None], wish.wanted, params=parameters))

    return look


def _graph(vectors: _Vectors) -> _Look:
    faiss = _faiss()
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 80
    # threads would link the rows in the order in which they come to them
    with threadpool_limits(limits=1):
        index.add(vectors)
    exact = _exact(vectors)

    def look(query: Float32[np.ndarray, " dim"], wish: _Wish) -> _Found:
        there = len(vectors) if wish.among is None else int(wish.among.sum())
        if 2 * wish.wanted > there:
            return exact(query, wish)  # not every row can be reached in the graph
        parameters = faiss.SearchParametersHNSW(
            efSearch=max(wish.wanted, 128 * wish.effort), sel=_selector(wish)
        )
        return _first(*index.search(query[None], wish.wanted, params=parameters))

    return look


def _selector(wish: _Wish) -> Any:
    """The rows that count, one bit each, as FAISS takes them."""
    if wish.among is None:
        return None
    return _faiss().IDSelectorBitmap(np.packbits(wish.among, bitorder="little"))


INDICES: Mapping[str, Callable[[_Vectors], _Look]] = {
    "exact": _exact, "ivf": _inverted_file, "hnsw": _graph,
}  # fmt: skip


def _first(similarities: Any, rows: Any) -> _Found:
    """The answer to the first query, without the blanks where fewer rows were found."""
    found = rows[0] >= 0
    return similarities[0][found], rows[0][found]
