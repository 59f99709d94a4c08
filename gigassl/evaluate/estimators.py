"""Probes as scikit-learn estimators: for Pipeline, cross_val_score, GridSearchCV."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from gigassl.errors import SettingsError
from gigassl.evaluate.fitted_probe import FittedProbe
from gigassl.evaluate.metrics import c_index
from gigassl.evaluate.probe_settings import ProbeSettings, Scaling
from gigassl.evaluate.probes import fit_probe
from gigassl.evaluate.task import Kind, Task

_NUMBERS = [np.float64, np.float32]


class _VectorEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """What the three have in common; parameters are those of ``ProbeSettings``."""

    probe_: FittedProbe

    @property
    def chosen_(self) -> dict[str, float]:
        """What was chosen in the training set: "strength", "block_weight"."""
        check_is_fitted(self)
        return dict(self.probe_.chosen)

    def _learn(self, vectors: Any, task: Task, settings: ProbeSettings) -> None:
        self.probe_ = fit_probe(
            vectors, task, settings=settings, seed=self.seed, first_block=self.first_block
        )

    def _answers(self, X: Any) -> Float64[np.ndarray, "slide answer"]:
        check_is_fitted(self)
        return self.probe_.predict(validate_data(self, X, dtype=_NUMBERS, reset=False))


class SlideProbe(ClassifierMixin, _VectorEstimator):  # type: ignore[misc]
    """The probe of ``gigassl probe`` as a classifier: L2-penalised logistic regression by default.

    On the same folds it says what ``gigassl probe`` says. Columns are standardised inside, and C is
    chosen inside the training set by the log loss of inner folds; give ``groups`` (patients) to
    ``fit``, or slides of one patient stand on both sides of these folds.

    >>> X = np.array([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.1]])
    >>> SlideProbe(strength=1.0).fit(X, ["a", "a", "b", "b"]).predict(X).tolist()
    ['a', 'a', 'b', 'b']

    Args:
        method: "logistic", "knn" (cosine), or "prototype" (nearest class mean; SimpleShot).
        strength: C of logistic; None: chosen.
        balanced: logistic: every class weighs the same.
        scaling: "none", "standard" or "l2"; None: as suits the method.
        neighbours: of knn, at most.
        inner_folds: of groups, at most, to choose in.
        first_block: width of a first stream, whose weight against the rest is chosen (vectors of
            ``spatial`` slide encoders; their table's provenance says it).
        seed: of the inner folds.

    Attributes:
        classes_: labels in rising order.
        probe_, chosen_, n_features_in_: what was learned, chosen; width of the vectors.
    """

    def __init__(  # noqa: PLR0913  (scikit-learn finds parameters by these names)
        self, *, method: str = "logistic", strength: float | None = None, balanced: bool = True,
        scaling: Scaling | None = None, neighbours: int = 20, inner_folds: int = 3,
        first_block: int | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.method = method
        self.strength = strength
        self.balanced = balanced
        self.scaling = scaling
        self.neighbours = neighbours
        self.inner_folds = inner_folds
        self.first_block = first_block
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> "SlideProbe":
        """Learns from vectors [slide, dim] and their labels [slide].

        Args:
            X: one vector a slide.
            y: one label a slide, of two or more classes.
            groups: one a slide, such as its patient; None: every slide its own.

        Raises:
            SettingsError: one class only; C to be chosen where a class has a single group.
        """
        X, y = validate_data(self, X, y, dtype=_NUMBERS)
        check_classification_targets(y)
        self.classes_, number = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise SettingsError(f"a classifier needs two classes; got 1 class, '{y[0]}'")
        names = tuple(str(name) for name in self.classes_.tolist())
        task = _task("classification", number.astype(np.float64), groups=groups, classes=names)
        self._learn(X, task, self._settings())
        return self

    def predict_proba(self, X: Any) -> Float64[np.ndarray, "slide answer"]:
        """Probabilities of ``classes_``, one row a slide.

        Raises:
            NotFittedError, ValueError: not fitted; vectors of another width.
        """
        return self._answers(X)

    def predict(self, X: Any) -> Shaped[np.ndarray, " slide"]:
        """The most probable class of each slide.

        Raises:
            NotFittedError, ValueError: not fitted; vectors of another width.
        """
        answers = self._answers(X)
        chosen: Shaped[np.ndarray, " slide"] = self.classes_[answers.argmax(axis=1)]
        return chosen

    def _settings(self) -> ProbeSettings:
        return ProbeSettings(
            method=self.method, strength=self.strength, balanced=self.balanced,
            scaling=self.scaling, neighbours=self.neighbours, inner_folds=self.inner_folds,
        )  # fmt: skip


class SlideRegressor(RegressorMixin, _VectorEstimator):  # type: ignore[misc]
    """The probe of ``gigassl probe --kind regression``: ridge regression by default.

    The penalty is chosen inside the training set by the squared error of inner folds of ``groups``.

    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> SlideRegressor(strength=1e-9).fit(X, [1.0, 3.0, 5.0, 7.0]).predict(X).round(3).tolist()
    [1.0, 3.0, 5.0, 7.0]

    Args:
        method: "ridge", or "knn" (mean of the nearest by cosine).
        strength: penalty of ridge; None: chosen.
        scaling, neighbours, inner_folds, first_block, seed: as in ``SlideProbe``.

    Attributes:
        probe_, chosen_, n_features_in_: what was learned, chosen; width of the vectors.
    """

    def __init__(  # noqa: PLR0913  (scikit-learn finds parameters by these names)
        self, *, method: str = "ridge", strength: float | None = None,
        scaling: Scaling | None = None, neighbours: int = 20, inner_folds: int = 3,
        first_block: int | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.method = method
        self.strength = strength
        self.scaling = scaling
        self.neighbours = neighbours
        self.inner_folds = inner_folds
        self.first_block = first_block
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> "SlideRegressor":
        """Learns from vectors [slide, dim] and their values [slide].

        Args:
            X: one vector a slide.
            y: one value a slide.
            groups: one a slide, such as its patient; None: every slide its own.

        Raises:
            SettingsError: a penalty to be chosen among slides of a single group.
        """
        X, y = validate_data(self, X, y, dtype=_NUMBERS, y_numeric=True, ensure_min_samples=2)
        task = _task("regression", y.astype(np.float64), groups=groups)
        settings = ProbeSettings(
            method=self.method, strength=self.strength, scaling=self.scaling,
            neighbours=self.neighbours, inner_folds=self.inner_folds,
        )  # fmt: skip
        self._learn(X, task, settings)
        return self

    def predict(self, X: Any) -> Float64[np.ndarray, " slide"]:
        """The value of each slide.

        Raises:
            NotFittedError, ValueError: not fitted; vectors of another width.
        """
        return self._answers(X)[:, 0]


class SlideSurvival(_VectorEstimator):
    """The probe of ``gigassl probe --kind survival``: Cox's proportional hazards (Efron's ties).

    The penalty is chosen inside the training set by the cross-validated partial likelihood
    (Verweij & van Houwelingen 1993). ``score`` is Harrell's C-index.

    Args:
        strength: of the penalty; None: chosen.
        l1_ratio: share of the elastic net's absolute part, 0 to 1.
        scaling, inner_folds, first_block, seed: as in ``SlideProbe``.

    Attributes:
        probe_, chosen_, n_features_in_: what was learned, chosen; width of the vectors.
    """

    def __init__(
        self, *, strength: float | None = None, l1_ratio: float = 0.0,
        scaling: Scaling | None = None, inner_folds: int = 3, first_block: int | None = None,
        seed: int = 0,
    ) -> None:  # fmt: skip
        self.strength = strength
        self.l1_ratio = l1_ratio
        self.scaling = scaling
        self.inner_folds = inner_folds
        self.first_block = first_block
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> "SlideSurvival":
        """Learns from vectors [slide, dim] and what was seen of their patients [slide].

        Args:
            X: one vector a slide.
            y: structured array of two fields, as scikit-survival takes it: whether the event was
                seen (bool), and the time under observation, above 0.
            groups: one a slide, such as its patient; None: every slide its own.

        Raises:
            SettingsError: another kind of y, times of zero or less, no event.
        """
        X = validate_data(self, X, dtype=_NUMBERS, ensure_min_samples=2)
        time, event = _survival(y, n=len(X))
        settings = ProbeSettings(
            method="cox", strength=self.strength, l1_ratio=self.l1_ratio, scaling=self.scaling,
            inner_folds=self.inner_folds,
        )  # fmt: skip
        self._learn(X, _task("survival", time, groups=groups, event=event), settings)
        return self

    def predict(self, X: Any) -> Float64[np.ndarray, " slide"]:
        """Log hazard of each slide: the higher, the earlier the event is expected.

        Raises:
            NotFittedError, ValueError: not fitted; vectors of another width.
        """
        return self._answers(X)[:, 0]

    def score(self, X: Any, y: Any) -> float:
        """Harrell's C-index: of comparable pairs, the share with the higher risk earlier.

        Raises:
            SettingsError: y as ``fit`` refuses it.
        """
        risk = self.predict(X)
        time, event = _survival(y, n=len(risk))
        return c_index(time, event, risk)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _task(
    kind: Kind, target: Float64[np.ndarray, " slide"], *, groups: Any,
    classes: Sequence[str] = (), event: Bool[np.ndarray, " slide"] | None = None,
) -> Task:  # fmt: skip
    """The rows as slides; without groups, each row's patient is its own."""
    rows = tuple(f"{row:09}" for row in range(len(target)))
    patients = rows if groups is None else tuple(str(group) for group in np.asarray(groups))
    if len(patients) != len(rows):
        raise SettingsError(f"{len(patients)} groups do not fit {len(rows)} slides; give one each")
    return Task(
        name="y", kind=kind, slide_ids=rows, patient_ids=patients, sites=("",) * len(rows),
        classes=tuple(classes), target=target, event=event, whole=False,
    )  # fmt: skip


def _survival(
    y: Any, *, n: int
) -> tuple[Float64[np.ndarray, " slide"], Bool[np.ndarray, " slide"]]:
    """Time and event of a structured array, whatever its fields are called."""
    said = np.asarray(y)
    kinds = [said.dtype[name].kind for name in said.dtype.names or ()]
    if sorted(kinds) not in (["b", "f"], ["b", "i"], ["b", "u"]) or said.shape != (n,):
        raise SettingsError(
            f"survival wants y as a structured array of {n} rows with a bool (event) and a number "
            f"(time); got {said.dtype} of shape {said.shape}. Make it with np.array(list(zip(event,"
            " time)), dtype=[('event', bool), ('time', float)])"
        )
    fields = dict(zip(kinds, said.dtype.names or (), strict=True))
    event = fields.pop("b")
    time: Float64[np.ndarray, " slide"] = said[fields.popitem()[1]].astype(np.float64)
    if not (np.isfinite(time) & (time > 0)).all():
        raise SettingsError("times under observation must be numbers above zero")
    return time, said[event]
