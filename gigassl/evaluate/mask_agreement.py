"""Agreement of tile scores with a mask: area-matched IoU, pointing game, areas under curves."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from jaxtyping import Float64
from sklearn.metrics import average_precision_score, roc_auc_score

from gigassl.errors import SettingsError

POINTED = 0.5
"""A tile is pointed at rightly when at least this share of it lies in the mask."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well scores find a mask; of pixels, each of which has the score of its tile.

    Attributes:
        iou: intersection over union of the mask and an area as large with the highest scores.
        pointing: 1 where the tile with the highest score lies in the mask (Zhang et al., arXiv
            1608.00507); of several highest ones, the share of those that do.
        auprc: area under the precision-recall curve, as average precision.
        auc: area under the ROC curve.
    """

    iou: float
    pointing: float
    auprc: float
    auc: float


MEASURES = tuple(field.name for field in fields(Agreement))


def agreement(
    score: Float64[np.ndarray, " tile"], share: Float64[np.ndarray, " tile"]
) -> Agreement:
    """Agreement of scores with a mask on the tiles of a slide, all of one size.

    Ties are fair: of tiles with one score at the threshold of the area each counts in part.

    Args:
        score: of each tile; finite.
        share: of each tile that lies in the mask, 0 to 1.

    Raises:
        SettingsError: the mask covers nothing of the tiles, or all.
    """
    if not 0 < share.sum() < len(share):
        covered = "nothing" if share.sum() == 0 else "everything"
        raise SettingsError(f"the mask covers {covered} of the tiles; there is nothing to compare")
    # each tile stands for its pixels inside the mask and for those outside
    truth = np.repeat([True, False], len(share))
    weight, twice = np.concatenate([share, 1 - share]), np.concatenate([score, score])
    return Agreement(
        iou=area_matched_iou(score, share),
        pointing=float((share[score == score.max()] >= POINTED).mean()),
        auprc=float(average_precision_score(truth, twice, sample_weight=weight)),
        auc=float(roc_auc_score(truth, twice, sample_weight=weight)),
    )


def area_matched_iou(
    score: Float64[np.ndarray, " tile"], share: Float64[np.ndarray, " tile"]
) -> float:
    """Intersection over union of the mask and the highest scores on as large an area."""
    area = float(share.sum())
    levels, of_level = np.unique(-score, return_inverse=True)
    count = np.bincount(of_level, minlength=len(levels))
    room = np.clip(
        area - (np.cumsum(count) - count), 0, count
    )  # taken of each level, highest first
    common = float((room / count * np.bincount(of_level, weights=share)).sum())
    return common / (2 * area - common)


def chance_agreement(
    score: Float64[np.ndarray, " tile"], share: Float64[np.ndarray, " tile"], *,
    generator: np.random.Generator, draws: int = 20,
) -> Agreement:  # fmt: skip
    """The control: mean agreement of the same scores dealt to the tiles at random."""
    found = [astuple(agreement(generator.permutation(score), share)) for _ in range(draws)]
    return Agreement(**dict(zip(MEASURES, np.mean(found, axis=0).tolist(), strict=True)))


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Mean difference of a measure over slides, and its interval (percentiles of a bootstrap).

    Attributes:
        n: slides that both were measured on.
    """

    measure: str
    mean: float
    low: float
    high: float
    n: int


def paired_differences(
    first: Sequence[Agreement], second: Sequence[Agreement], *, generator: np.random.Generator,
    draws: int = 2000,
) -> list[PairedDifference]:  # fmt: skip
    """How much better ``first`` agrees than ``second`` on the same slides, in the same order.

    Raises:
        SettingsError: none, or other numbers of slides.
    """
    if not first or len(first) != len(second):
        raise SettingsError(
            "a paired difference wants the same slides for both, at least one; got "
            f"{len(first)} and {len(second)}"
        )
    each = np.array([astuple(a) for a in first]) - np.array([astuple(b) for b in second])
    picks = generator.integers(0, len(each), (draws, len(each)))
    low, high = np.quantile(each[picks].mean(axis=1), [0.025, 0.975], axis=0)
    return [
        PairedDifference(
            measure=name, mean=float(each[:, k].mean()), low=float(low[k]), high=float(high[k]),
            n=len(each),
        )
        for k, name in enumerate(MEASURES)
    ]  # fmt: skip
