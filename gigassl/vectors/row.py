"""Slide row: what the table holds of one slide."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from gigassl.errors import GigasslError

LENGTH_TOLERANCE = 1e-3
"""How far from one the length of a vector may be that counts as normalised."""


@dataclass(frozen=True, kw_only=True)
class SlideRow:
    """One slide's vector and facts; None where not known.

    Attributes:
        slide_id: name of the slide.
        patient_id: name of the patient.
        patient_rule: where that name comes from: "column", "tcga-barcode" or "slide_id".
        file: name of the slide or bag file, without its folder.
        embedding: vector of length one.
        n_tiles: tiles that went into it; None for vectors of other tools that do not say it.
        n_views: views it is the mean of; 1 for the poolings.
        view_spread: how much the views differ; None for the poolings.
        mpp: level-0 resolution, µm/px.
        mpp_source: where ``mpp`` comes from.
        effective_mpp: resolution at which tiles were read, µm/px.
        width_l0, height_l0: size in level-0 px.
        slide_digest: digest of the slide file.
        inputs_digest: digest of file size, cohort mpp and mask, by which a resume knows a change.
        settings_digest: digest of all settings that shaped the vector.

    Raises:
        GigasslError: the vector is not of length one, or ``file`` names a folder too.
    """

    slide_id: str
    patient_id: str
    patient_rule: str = ""
    file: str
    embedding: Float32[np.ndarray, " dim"]
    n_tiles: int | None
    n_views: int | None = None
    view_spread: float | None = None
    mpp: float | None = None
    mpp_source: str = ""
    effective_mpp: float | None = None
    width_l0: int | None = None
    height_l0: int | None = None
    slide_digest: str = ""
    inputs_digest: str = ""
    settings_digest: str = ""

    def __post_init__(self) -> None:
        if "/" in self.file:
            raise GigasslError(
                f"slide '{self.slide_id}': give the file's name without its folder; "
                f"got '{self.file}'"
            )
        length = float(np.linalg.norm(self.embedding.astype(np.float64)))
        if not abs(length - 1) <= LENGTH_TOLERANCE:
            raise GigasslError(
                f"slide '{self.slide_id}': its vector has length {length:.4g}, not 1; "
                "pass it through l2_normalised"
            )
