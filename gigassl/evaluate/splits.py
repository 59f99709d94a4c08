"""Splits of a task: grouped folds, hold-out, sites left out or kept whole, few-shot draws."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from gigassl.errors import SettingsError
from gigassl.evaluate.draws import Queue, check_train_size, quotas
from gigassl.evaluate.split import FULL, Split
from gigassl.evaluate.task import Task

Scheme = Literal["patient-kfold", "slide-kfold", "holdout", "leave-site-out", "site-preserved"]
QUANTILES = 5
"""Strata that values, or times of each kind of event, are balanced over."""


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """How a task is divided.

    Attributes:
        scheme: "patient-kfold" (stratified, patients never divided), "slide-kfold" (the same of
            slides: it leaks patients, and is there for comparison with published numbers),
            "holdout" (one part tested, drawn ``repeats`` times), "leave-site-out" (each site tested
            once), "site-preserved" (folds of whole sites, classes as even as sites allow).
        folds: of the k-fold schemes.
        repeats: of the whole scheme, each with a chance of its own.
        test_fraction: of "holdout".
        train_sizes: "full", slides in all ("50"), a share ("25%"), slides of each class ("k=5").
        draws: few-shot draws for each test set; "full" is drawn once.
        seed: of all chance.
        validation: share of the training patients that is kept for validation.

    Raises:
        SettingsError: a setting out of range.
    """

    scheme: Scheme = "patient-kfold"
    folds: int = 5
    repeats: int = 1
    test_fraction: float = 0.2
    train_sizes: tuple[str, ...] = (FULL,)
    draws: int = 1
    seed: int = 0
    validation: float = 0.0

    def __post_init__(self) -> None:
        if self.folds < 2 or min(self.repeats, self.draws) < 1:
            raise SettingsError("splits need at least 2 folds, 1 repeat and 1 draw")
        if not 0 < self.test_fraction < 1 or not 0 <= self.validation <= 0.5 or self.seed < 0:
            raise SettingsError(
                f"the tested share must lie between 0 and 1, that for validation between 0 and "
                f"0.5, the seed not below 0; got {self.test_fraction}, {self.validation}, "
                f"{self.seed}"
            )
        if not self.train_sizes or len(set(self.train_sizes)) < len(self.train_sizes):
            raise SettingsError("name at least one training size, and each once")
        for size in self.train_sizes:
            check_train_size(size)


def make_splits(task: Task, settings: SplitSettings) -> tuple[Split, ...]:
    """Divides a task; equal tasks and settings give equal splits, whatever the order of slides.

    Test sets do not depend on training sizes or draws; the training sets of one draw lie in each
    other. A split's ``draw`` is ``repeat · draws + draw``.

    Raises:
        SettingsError: fewer patients or sites than folds, slides without site where sites count,
            training sizes that a training set cannot give.
    """
    return tuple(
        split
        for repeat in range(settings.repeats)
        for fold, tested in enumerate(_TEST_SETS[settings.scheme](task, settings, repeat))
        for split in draws_of(
            task,
            Split(
                scheme=settings.scheme, draw=repeat, fold=fold, train=np.flatnonzero(~tested),
                test=np.flatnonzero(tested),
            ),
            settings=settings,
        )
    )  # fmt: skip


def strata_of(task: Task) -> Int64[np.ndarray, " slide"]:
    """What splits are balanced over: classes, quantiles of a value, event × quantile of time."""
    if task.kind == "classification":
        return task.labels
    if task.event is None:
        return _quantile_numbers(task)
    strata = np.zeros(len(task), dtype=np.int64)
    for event in (False, True):
        rows = np.flatnonzero(task.event == event)
        if len(rows):
            strata[rows] = _quantile_numbers(task.rows(rows)) + QUANTILES * event
    return strata


def _quantile_numbers(task: Task) -> Int64[np.ndarray, " slide"]:
    edges = np.quantile(task.target, np.arange(1, QUANTILES) / QUANTILES)
    return np.searchsorted(edges, task.target, side="right").astype(np.int64)


def grouped_folds(
    strata: Int64[np.ndarray, " row"],
    groups: Sequence[str],
    *,
    folds: int,
    seed: int | Sequence[int],
) -> Int64[np.ndarray, " row"]:
    """Fold of each row: groups are never divided, each stratum is spread as evenly as they allow.

    Groups go one after the other, large ones first and chance among equals, to the fold that holds
    least of what they bring; single-row groups are spread to within one row a stratum.

    Raises:
        SettingsError: fewer groups than folds.
    """
    counts, group = _counts(strata, groups)
    if len(counts) < folds:
        raise SettingsError(
            f"{folds} folds need at least {folds} patients (or sites); there are {len(counts)}. "
            "Ask for fewer folds"
        )
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(len(counts))
    order = mixed[np.argsort(-counts[mixed].sum(axis=1), kind="stable")]
    weight = 1 / np.maximum(counts.sum(axis=0), 1)
    held = np.zeros((folds, counts.shape[1]))
    chosen = np.zeros(len(counts), dtype=np.int64)
    chance = rng.permutation(folds)
    for number in order:
        met = held @ (counts[number] * weight)
        chosen[number] = np.lexsort((chance, held.sum(axis=1), met))[0]
        held[chosen[number]] += counts[number]
    folds_of_rows: Int64[np.ndarray, " row"] = chosen[group]
    return folds_of_rows


def _counts(
    strata: Int64[np.ndarray, " row"], groups: Sequence[str]
) -> tuple[Int64[np.ndarray, "group stratum"], Int64[np.ndarray, " row"]]:
    """Rows of each stratum in each group (sorted by name), and the group of each row."""
    _, group = np.unique(np.array(groups, dtype=object), return_inverse=True)
    counts = np.zeros((int(group.max()) + 1, int(strata.max()) + 1), dtype=np.int64)
    np.add.at(counts, (group, strata), 1)
    return counts, group.astype(np.int64)


def site_groups(task: Task) -> tuple[str, ...]:
    """Sites of the slides; sites that share a patient count as one, named after the first.

    Raises:
        SettingsError: a slide without a site, or a single site.
    """
    lacking = [name for name, site in zip(task.slide_ids, task.sites, strict=True) if not site]
    if lacking:
        raise SettingsError(
            f"{len(lacking)} of {len(task)} slides have no site, first '{lacking[0]}'; name the "
            "column of the sites, fill it in, or leave these slides out"
        )
    head = {site: site for site in task.sites}

    def first_of(site: str) -> str:
        while head[site] != site:
            site = head[site]
        return site

    met: dict[str, str] = {}
    for patient, site in zip(task.patient_ids, task.sites, strict=True):
        a, b = sorted((first_of(met.setdefault(patient, site)), first_of(site)))
        head[b] = a
    groups = tuple(first_of(site) for site in task.sites)
    if len(set(groups)) < 2:
        raise SettingsError(
            f"all {len(task)} slides come from one site ('{groups[0]}'), or from sites that share "
            "patients; this scheme needs two"
        )
    return groups


def _folds(
    task: Task, groups: Sequence[str], settings: SplitSettings, *, repeat: int
) -> Iterator[Bool[np.ndarray, " slide"]]:
    seed = (settings.seed, repeat)
    numbers = grouped_folds(strata_of(task), groups, folds=settings.folds, seed=seed)
    for fold in range(settings.folds):
        yield numbers == fold


def _each_site(task: Task) -> Iterator[Bool[np.ndarray, " slide"]]:
    groups = np.array(site_groups(task), dtype=object)
    for site in sorted(set(groups)):
        yield groups == site


def _one_part(
    task: Task, settings: SplitSettings, repeat: int
) -> Iterator[Bool[np.ndarray, " slide"]]:
    """Patients in an order of chance, each tested where that brings every stratum nearer."""
    strata = strata_of(task)
    counts, group = _counts(strata, task.patient_ids)
    wanted = np.maximum(settings.test_fraction * counts.sum(axis=0), 1)
    tested, held = np.zeros(len(counts), dtype=bool), np.zeros(counts.shape[1])
    for number in np.random.default_rng((settings.seed, repeat)).permutation(len(counts)):
        after = held + counts[number]
        if (((after - wanted) ** 2 - (held - wanted) ** 2) / wanted).sum() < 0:
            tested[number], held = True, after
    yield tested[group]


_TestSets = Callable[[Task, SplitSettings, int], Iterator[Bool[np.ndarray, " slide"]]]
_TEST_SETS: Mapping[str, _TestSets] = {
    "patient-kfold": lambda task, s, repeat: _folds(task, task.patient_ids, s, repeat=repeat),
    "slide-kfold": lambda task, s, repeat: _folds(task, task.slide_ids, s, repeat=repeat),
    "holdout": _one_part,
    "leave-site-out": lambda task, s, repeat: _each_site(task),
    "site-preserved": lambda task, s, repeat: _folds(task, site_groups(task), s, repeat=repeat),
}


def draws_of(task: Task, whole: Split, *, settings: SplitSettings) -> Iterator[Split]:
    """The splits of one test set: every draw, every training size of the settings.

    Args:
        task: what is divided.
        whole: the test set, and all that there is to learn from in ``train``; its ``draw`` is the
            number of the repeat.
        settings: training sizes, draws, seed and validation.

    Raises:
        SettingsError: training sizes that the training set cannot give.
    """
    # sorted by name, so that the order of the slides says nothing
    rows = np.array(sorted(whole.train, key=lambda row: task.slide_ids[row]), dtype=np.int64)
    strata = strata_of(task)
    held = held_by(strata, rows)
    for draw in range(settings.draws):
        rng = np.random.default_rng((settings.seed, whole.draw, whole.fold, draw))
        queue = Queue(rows, strata=strata, patients=task.patient_ids, rng=rng)
        for size in settings.train_sizes:
            if draw and size == FULL:
                continue
            counts = quotas(
                size, held, classes=bool(task.classes),
                where=f"fold {whole.fold} (repeat {whole.draw}) of {whole.scheme}",
            )  # fmt: skip
            learned, kept = queue.take(counts, validation=settings.validation)
            yield Split(
                scheme=whole.scheme, train_size=size, draw=whole.draw * settings.draws + draw,
                fold=whole.fold, train=learned, test=whole.test, val=kept,
            )  # fmt: skip


def held_by(
    strata: Int64[np.ndarray, " slide"], rows: Int64[np.ndarray, " row"]
) -> Int64[np.ndarray, " stratum"]:
    """How many of some rows each stratum holds."""
    return np.bincount(strata[rows], minlength=int(strata.max()) + 1)
