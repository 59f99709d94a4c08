"""The reduction of a bank: from a file, or fitted on a fixed sample of the cohort's slides."""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gigassl.bags.bank_draws import DrawSettings
from gigassl.bags.reduction import Reduction, fit_pca, load_reduction
from gigassl.errors import SettingsError
from gigassl.pipeline.bank_stream import Augmenting, encode_augmented
from gigassl.pipeline.progress import Silent
from gigassl.pipeline.stream import Prepare
from gigassl.slides.cohort import CohortSlide

log = logging.getLogger("gigassl")

N_SLIDES = 32
"""Slides of the sample, spread over the whole cohort."""
SAMPLE = 16
"""Augmentations of each, and tiles of each of these."""


@dataclass(frozen=True, kw_only=True)
class ReductionWish:
    """What ``--reduce`` asks for: columns to keep of a PCA that is fitted, or a file.

    Attributes:
        kept: columns to keep; None where a file says it.
        path: a file that ``save_reduction`` wrote.
    """

    kept: int | None = None
    path: Path | None = None


def parse_reduction(text: str) -> ReductionWish:
    """``"pca:256"``, or the path of a file.

    Raises:
        SettingsError: another form.
    """
    kind, colon, number = text.partition(":")
    if kind == "pca" and colon and number.isdecimal() and int(number) > 0:
        return ReductionWish(kept=int(number))
    if text.endswith(".safetensors"):
        return ReductionWish(path=Path(text))
    raise SettingsError(
        "--reduce wants pca:N, such as pca:256, or the reduction.safetensors of another bank; "
        f"got '{text}'"
    )


def granted(wish: ReductionWish, *, stored: Path | None, encoder_digest: str) -> Reduction | None:
    """The reduction where it need not be fitted: from the file named, or from the bank begun.

    Raises:
        SettingsError: no such file, or a reduction of another encoder or width.
    """
    if wish.path is not None:
        return load_reduction(wish.path, encoder_digest=encoder_digest)
    if stored is None or not stored.exists():
        return None
    found = load_reduction(stored, encoder_digest=encoder_digest)
    if len(found.components) != wish.kept:
        raise SettingsError(
            f"{stored} keeps {len(found.components)} columns, pca:{wish.kept} was asked for; "
            "choose another -o"
        )
    return found


def sample_of(slides: Sequence[CohortSlide]) -> Sequence[CohortSlide]:
    """The slides that a reduction is fitted on: spread evenly over the sorted cohort.

    They come from the whole cohort, also in a part of a job array, so that all parts fit the same.
    """
    places = np.linspace(0, len(slides) - 1, min(N_SLIDES, len(slides))).round().astype(int)
    return [slides[i] for i in places.tolist()]


def fit_reduction(
    slides: Sequence[CohortSlide], *, kept: int, prepare: Prepare, how: Augmenting, workers: int
) -> Reduction:
    """Fits a PCA on augmented tiles of the sample; slides that fail are left out of it.

    Raises:
        SettingsError: too few tiles for so many columns.
    """
    sample = sample_of(slides)
    log.info("fitting pca:%d on %d tiles of each of %d slides", kept, SAMPLE**2, len(sample))
    settings = sample_settings(how.settings)
    fitting = replace(how, settings=settings, reduction=None)
    encoded = encode_augmented(
        sample, prepare=prepare, how=fitting, workers=workers, progress=Silent()
    )
    with closing(encoded):
        # what fails has no features, or not all; it is listed when its turn comes
        found = [w.features for w in encoded if w.slide.failure is None and w.features is not None]
    if not found:
        raise SettingsError("no slide of the sample could be encoded, so no reduction was fitted")
    rows = np.concatenate([features.reshape(-1, features.shape[2]) for features in found])
    return fit_pca(rows, kept=kept)


def sample_settings(settings: DrawSettings) -> DrawSettings:
    """What is drawn of each slide of the sample: tiles from anywhere, often augmented anew."""
    return replace(settings, augmentations=SAMPLE, tiles=SAMPLE, draw="scatter")
