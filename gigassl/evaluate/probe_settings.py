"""Settings of a probe: which simple model reads vectors, and what the training fold chooses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gigassl.errors import SettingsError, unknown_name
from gigassl.evaluate.task import Kind

Scaling = Literal["none", "standard", "l2"]

KINDS: Mapping[str, tuple[Kind, ...]] = {
    "logistic": ("classification",),
    "ridge": ("regression",),
    "knn": ("classification", "regression"),
    "prototype": ("classification",),
    "cox": ("survival",),
}
"""What each probe can predict."""

DEFAULT_METHODS: Mapping[Kind, str] = {
    "classification": "logistic",
    "regression": "ridge",
    "survival": "cox",
}
"""The probe of a kind of task, where none is named."""

_LINEAR = ("logistic", "ridge", "cox")
_GRIDS: Mapping[str, tuple[float, ...]] = {
    "logistic": tuple(10.0**k for k in range(-5, 2)),
    "logistic, not standardised": tuple(10.0**k for k in range(-2, 5)),
    "ridge": tuple(10.0**k for k in range(-1, 6)),
    "ridge, not standardised": tuple(10.0**k for k in range(-4, 3)),
    "cox": tuple(10.0**k for k in range(6)),
    "cox, not standardised": tuple(10.0**k for k in range(-3, 3)),
}
BLOCK_WEIGHTS = (0.0, 0.1, 0.3, 1.0)
"""Weights of a second stream beside the first that the training fold chooses among."""


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """One probe; what is None is chosen by folds of patients inside the training set, or by method.

    Attributes:
        method: logistic regression, ridge regression, k nearest neighbours by cosine, nearest class
            mean (SimpleShot), or Cox's proportional hazards.
        strength: C of logistic (larger: less penalty), or the penalty of ridge and Cox; None:
            chosen.
        strengths: to choose among; empty: a grid that suits method and scaling.
        l1_ratio: Cox: share of the elastic net's absolute part in the penalty.
        balanced: logistic: every class weighs the same.
        scaling: "none"; "standard" (columns centred and divided by their deviation in the training
            set); "l2" (each vector to length 1); None: standard for linear probes, else none.
        neighbours: that vote, at most.
        inner_folds: of patients, at most; fewer where a class has fewer patients.

    Raises:
        SettingsError: a value out of range, or that the method does not have.
    """

    method: str = "logistic"
    strength: float | None = None
    strengths: tuple[float, ...] = ()
    l1_ratio: float = 0.0
    balanced: bool = True
    scaling: Scaling | None = None
    neighbours: int = 20
    inner_folds: int = 3

    def __post_init__(self) -> None:
        if self.method not in KINDS:
            raise unknown_name("probe", self.method, known=KINDS)
        given = [s for s in (self.strength, *self.strengths) if s is not None]
        if any(s <= 0 for s in given):
            raise SettingsError(f"strengths of a probe must be above zero; got {min(given):g}")
        if given and self.method not in _LINEAR:
            raise SettingsError(f"the probe '{self.method}' has no strength; leave it out")
        if not 0 <= self.l1_ratio <= 1 or (self.l1_ratio and self.method != "cox"):
            raise SettingsError(
                f"the share of the absolute penalty lies between 0 and 1, and only Cox has one; "
                f"got {self.l1_ratio:g} for '{self.method}'"
            )
        if self.neighbours < 1 or self.inner_folds < 2:
            raise SettingsError(
                f"at least 1 neighbour and 2 inner folds are needed; got {self.neighbours} and "
                f"{self.inner_folds}"
            )

    @property
    def scaling_used(self) -> Scaling:
        """The scaling, where none is named that of the method."""
        return self.scaling or ("standard" if self.method in _LINEAR else "none")

    @property
    def grid(self) -> tuple[float, ...]:
        """Strengths to choose among; a single one where it is given."""
        if self.strength is not None:
            return (self.strength,)
        plain = "" if self.scaling_used == "standard" else ", not standardised"
        return self.strengths or _GRIDS[self.method + plain]

    def refuse(self, kind: Kind) -> None:
        """Refuses a task that the method cannot predict.

        Raises:
            SettingsError: with the probes that can.
        """
        if kind not in KINDS[self.method]:
            able = ", ".join(name for name, kinds in KINDS.items() if kind in kinds)
            raise SettingsError(
                f"the probe '{self.method}' cannot predict a {kind}; these can: {able}"
            )


PROBE_PRESETS: Mapping[str, ProbeSettings] = {
    "giga-ssl": ProbeSettings(method="logistic", strength=10.0, balanced=True, scaling="none"),
}
"""Published protocols: Giga-SSL's (Lazard et al. 2023): C = 10, balanced classes, no scaling."""
