"""Metrics: one number of what was true and what was predicted.

All return NaN where they are not defined, such as a fold that lacks a class: whoever averages
counts those. Lists of many weighted draws are in ``metric_draws``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from gigassl.errors import unknown_name
from gigassl.evaluate import metric_draws as md
from gigassl.evaluate.outcome import Outcome
from gigassl.evaluate.task import Kind

Draws = Callable[[Outcome, np.ndarray, np.ndarray], np.ndarray]


def auc(
    labels: Int64[np.ndarray, " row"], probabilities: Float64[np.ndarray, "row class"]
) -> float:
    """Area under the ROC curve, as scikit-learn's; several classes: mean of each against the rest.

    Two classes: of the second one. NaN where a class has no row.
    """
    from sklearn.metrics import roc_auc_score

    n_classes = probabilities.shape[1]
    if len(np.unique(labels)) < n_classes:
        return float("nan")
    classes = [1] if n_classes == 2 else range(n_classes)
    return float(np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in classes]))


def average_precision(
    labels: Int64[np.ndarray, " row"], probabilities: Float64[np.ndarray, "row class"]
) -> float:
    """Average precision; two classes: of the second one; several: mean over all."""
    return _once(md.average_precision_draws, _classes(labels, probabilities), probabilities)


def balanced_accuracy(
    labels: Int64[np.ndarray, " row"], probabilities: Float64[np.ndarray, "row class"]
) -> float:
    """Mean over classes of the share found, where the most probable class is decided for."""
    return _once(md.balanced_accuracy_draws, _classes(labels, probabilities), probabilities)


def macro_f1(
    labels: Int64[np.ndarray, " row"], probabilities: Float64[np.ndarray, "row class"]
) -> float:
    """Mean F1 over classes, where the most probable class is decided for."""
    return _once(md.macro_f1_draws, _classes(labels, probabilities), probabilities)


def log_loss(
    labels: Int64[np.ndarray, " row"], probabilities: Float64[np.ndarray, "row class"]
) -> float:
    """Mean negative logarithm of the true class's probability, in nats."""
    return _once(md.log_loss_draws, _classes(labels, probabilities), probabilities)


def calibration_error(
    labels: Int64[np.ndarray, " row"], probabilities: Float64[np.ndarray, "row class"]
) -> float:
    """Expected calibration error: mean gap between probability and frequency over 10 bins.

    Bins of equal mass, equal probabilities in one bin. Two classes: of the second one; several:
    mean over classes. Well-calibrated probabilities of few rows are above zero too: compare
    only at equal numbers of rows.
    """
    return _once(md.calibration_error_draws, _classes(labels, probabilities), probabilities)


def r2(target: Float64[np.ndarray, " row"], value: Float64[np.ndarray, " row"]) -> float:
    """Share of the variance explained; NaN where the truth is constant."""
    return _once(md.r2_draws, Outcome(kind="regression", target=target), value[:, None])


def spearman(target: Float64[np.ndarray, " row"], value: Float64[np.ndarray, " row"]) -> float:
    """Rank correlation with mid-ranks; NaN where either side is constant."""
    return _once(md.spearman_draws, Outcome(kind="regression", target=target), value[:, None])


def c_index(
    time: Float64[np.ndarray, " row"],
    event: Bool[np.ndarray, " row"],
    risk: Float64[np.ndarray, " row"],
) -> float:
    """Harrell's concordance index: of comparable pairs, the share with the higher risk earlier.

    A pair is comparable if the earlier time is an event, or if the times are equal and only one of
    them is censored; equal risks count half (Harrell et al. 1996). NaN without such a pair.
    """
    outcome = Outcome(kind="survival", target=time, event=event)
    return _once(md.c_index_draws, outcome, risk[:, None])


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as tables and bootstraps use it.

    Attributes:
        name: how users choose it.
        title: how tables call it.
        kind: of the tasks that it suits.
        draws: its value in many draws of the same rows.
        lower_is_better: as of a loss.
        bounds: between which it lies.
    """

    name: str
    title: str
    kind: Kind
    draws: Draws
    lower_is_better: bool = False
    bounds: tuple[float, float] = (0.0, 1.0)

    def value(self, outcome: Outcome, output: Float64[np.ndarray, "row output"]) -> float:
        """Its value on all rows, each counted once; NaN where it is not defined."""
        if self.draws is md.auc_draws:  # scikit-learn's own number, to the last digit
            return auc(outcome.labels, output)
        return _once(self.draws, outcome, output)


_ALL = (
    Metric(name="auc", title="AUC", kind="classification", draws=md.auc_draws),
    Metric(
        name="balanced_accuracy", title="bal. acc.", kind="classification",
        draws=md.balanced_accuracy_draws,
    ),
    Metric(name="macro_f1", title="F1", kind="classification", draws=md.macro_f1_draws),
    Metric(
        name="average_precision", title="AP", kind="classification",
        draws=md.average_precision_draws,
    ),
    Metric(
        name="log_loss", title="log-loss", kind="classification", draws=md.log_loss_draws,
        lower_is_better=True, bounds=(0.0, math.inf),
    ),
    Metric(
        name="calibration_error", title="ECE", kind="classification",
        draws=md.calibration_error_draws, lower_is_better=True,
    ),
    Metric(
        name="spearman", title="Spearman ρ", kind="regression", draws=md.spearman_draws,
        bounds=(-1.0, 1.0),
    ),
    Metric(
        name="r2", title="R²", kind="regression", draws=md.r2_draws, bounds=(-math.inf, 1.0)
    ),
    Metric(name="c_index", title="C-index", kind="survival", draws=md.c_index_draws),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}
"""Name → metric; the first of a kind is the one that methods are compared by."""


def metrics_of(kind: Kind) -> tuple[Metric, ...]:
    """The metrics of a kind of task, the main one first."""
    return tuple(metric for metric in _ALL if metric.kind == kind)


def chosen_metric(kind: Kind, name: str | None) -> Metric:
    """The named metric, or the main one of the kind.

    Raises:
        SettingsError: no metric of that name for such tasks.
    """
    suited = {metric.name: metric for metric in metrics_of(kind)}
    if name is not None and name not in suited:
        raise unknown_name(f"metric of a {kind}", name, known=suited)
    return metrics_of(kind)[0] if name is None else suited[name]


def _classes(labels: np.ndarray, probabilities: np.ndarray) -> Outcome:
    return Outcome(
        kind="classification", target=labels.astype(np.float64), n_classes=probabilities.shape[1]
    )


def _once(draws: Draws, outcome: Outcome, output: np.ndarray) -> float:
    return float(draws(outcome, output, np.ones((1, len(outcome))))[0])
