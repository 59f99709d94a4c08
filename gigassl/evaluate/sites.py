"""Sites: whether vectors lie together by biology, or by the hospital that the slides come from."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.task import Task

_ROWS = 1024
"""Slides whose similarities to all others are held at once."""


@dataclass(frozen=True, kw_only=True)
class RobustnessIndex:
    """What the nearest slides of other patients share with a slide, over all slides.

    Attributes:
        neighbours: of each slide, at most.
        index: of the neighbours that share only one of class and site, the share that share the
            class; from 0 (site alone) to 1 (biology alone). Kömen et al. 2025 (arXiv 2507.17845).
        ratio: neighbours of the same class for each of the same site; above 1, biology outweighs
            the site. De Jong et al. 2025 (arXiv 2501.18055).
        index_by_chance, ratio_by_chance: the same of neighbours drawn at random; only a balanced
            cohort has 0.5 and 1 there.
    """

    neighbours: int
    index: float
    ratio: float
    index_by_chance: float
    ratio_by_chance: float


def robustness_index(
    vectors: Float[np.ndarray, "slide dim"], *, classes: Int64[np.ndarray, " slide"],
    sites: Sequence[str], patients: Sequence[str], neighbours: int = 10,
) -> RobustnessIndex:  # fmt: skip
    """Compares neighbours by biology with neighbours by site.

    Neighbours are the nearest by cosine among slides of other patients; of equally near ones, the
    first count.

    Args:
        vectors: one a slide.
        classes: biology of each slide.
        sites: where each slide comes from.
        patients: of each slide.
        neighbours: of each slide; fewer where there are no more slides of other patients.

    Raises:
        SettingsError: no neighbour wanted, or slides of a single patient.
    """
    site, patient = _numbers(sites), _numbers(patients)
    if neighbours < 1 or len(np.unique(patient)) < 2:
        raise SettingsError("a robustness index needs at least 1 neighbour and 2 patients")
    found, chance = np.zeros(4), np.zeros(4)
    for rows, near, other in _neighbours(vectors, patient, neighbours=neighbours):
        same_class = classes[rows, None] == classes[None, :]
        same_site = site[rows, None] == site[None, :]
        found += _counts(same_class, same_site, near)
        # each slide weighs as much as it has neighbours
        weight = near.sum(axis=1, keepdims=True) / other.sum(axis=1, keepdims=True)
        chance += _counts(same_class, same_site, other * weight)
    return RobustnessIndex(
        neighbours=neighbours,
        index=_share(found[0], found[1]),
        ratio=_ratio(found[2], found[3]),
        index_by_chance=_share(chance[0], chance[1]),
        ratio_by_chance=_ratio(chance[2], chance[3]),
    )


def _neighbours(
    vectors: Float[np.ndarray, "slide dim"],
    patient: Int64[np.ndarray, " slide"],
    *,
    neighbours: int,
) -> Iterator[tuple[np.ndarray, Bool[np.ndarray, "some slide"], Bool[np.ndarray, "some slide"]]]:
    """Rows, which slides are their neighbours, and which are of other patients at all."""
    rows_of_unit = vectors.astype(np.float64)
    rows_of_unit /= np.maximum(np.linalg.norm(rows_of_unit, axis=1, keepdims=True), 1e-12)
    for start in range(0, len(vectors), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(vectors)))
        other = patient[rows, None] != patient[None, :]
        similar = np.where(other, rows_of_unit[rows] @ rows_of_unit.T, -np.inf)
        yield rows, _largest(similar, n=min(neighbours, len(vectors))) & other, other


def _largest(values: Float[np.ndarray, "some slide"], *, n: int) -> Bool[np.ndarray, "some slide"]:
    """Which are the n largest of each row; of equal ones, the first (no sort, which is slow)."""
    last = np.partition(values, -n, axis=1)[:, -n, None]
    above, equal = values > last, values == last
    free = n - above.sum(axis=1, keepdims=True)
    largest: Bool[np.ndarray, "some slide"] = above | (equal & (np.cumsum(equal, axis=1) <= free))
    return largest


def _counts(
    same_class: Bool[np.ndarray, "some slide"], same_site: Bool[np.ndarray, "some slide"],
    weight: "np.ndarray",
) -> np.ndarray:  # fmt: skip
    """Class alone shared, site alone shared, class shared, site shared."""
    shared = (same_class & ~same_site, same_site & ~same_class, same_class, same_site)
    return np.array([(each * weight).sum() for each in shared])


def _share(part: float, rest: float) -> float:
    return float(part / (part + rest)) if part + rest else float("nan")


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _numbers(names: Sequence[str]) -> Int64[np.ndarray, " slide"]:
    _, numbers = np.unique(np.array(names, dtype=object), return_inverse=True)
    return numbers.astype(np.int64)


def with_site(task: Task) -> Task:
    """The slides whose site is known.

    Raises:
        SettingsError: there are none; and as ``Task``.
    """
    rows = np.flatnonzero([bool(site) for site in task.sites])
    if len(rows) == 0:
        raise SettingsError(
            f"no slide of task '{task.name}' has a site; name the column of the sites "
            "(--site-column), or use TCGA barcodes"
        )
    return replace(task.rows(rows), whole=task.whole)


def site_task(task: Task, *, min_patients: int) -> Task:
    """The task of telling the site, of sites with enough patients.

    Raises:
        SettingsError: fewer than two such sites.
    """
    patients = defaultdict(set)
    for site, patient in zip(task.sites, task.patient_ids, strict=True):
        patients[site].add(patient)
    sites = tuple(sorted(s for s, of in patients.items() if s and len(of) >= min_patients))
    if len(sites) < 2:
        raise SettingsError(
            f"{len(sites)} of {len(patients)} sites have at least {min_patients} patients; two are "
            "needed to tell sites apart. Ask for fewer folds, or name another column of sites"
        )
    number = {site: k for k, site in enumerate(sites)}
    rows = np.flatnonzero([site in number for site in task.sites])
    part = task.rows(rows)
    target = np.array([number[site] for site in part.sites], dtype=np.float64)
    return replace(
        part, name="site", kind="classification", classes=sites, target=target, event=None,
        whole=True,
    )  # fmt: skip
