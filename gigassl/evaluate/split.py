"""Split: which slides of a task are learned from, and which are tested."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from gigassl.errors import SettingsError

FULL = "full"
"""Train size of a split that leaves no training slide out."""


def _no_rows() -> Int64[np.ndarray, " none"]:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """One way to divide a task; all rows are row numbers of that task.

    Attributes:
        scheme: how it was made, such as "patient-kfold" or "published:giga-ssl".
        train_size: "full", "25%", "50" (slides in all) or "k=5" (slides a class).
        draw: number of the repeat: of the few-shot draw, or of the whole scheme.
        fold: number of the fold within the repeat.
        train, test: rows to learn from, and to be tested.
        val: rows for early stopping; empty where the method takes them from ``train``.

    Raises:
        SettingsError: no training or test rows, or a row on two sides.
    """

    scheme: str
    train_size: str = FULL
    draw: int = 0
    fold: int = 0
    train: Int64[np.ndarray, " train"]
    test: Int64[np.ndarray, " test"]
    val: Int64[np.ndarray, " val"] = field(default_factory=_no_rows)

    def __post_init__(self) -> None:
        for side in ("train", "test"):
            if len(getattr(self, side)) == 0:
                raise SettingsError(f"{self.title} has an empty {side} set")
        rows = np.concatenate([self.train, self.val, self.test])
        if len(np.unique(rows)) != len(rows):
            raise SettingsError(f"{self.title} names a slide twice")

    @property
    def title(self) -> str:
        """What messages call it."""
        return (
            f"split {self.fold} (draw {self.draw}) of {self.scheme}, train size {self.train_size}"
        )
