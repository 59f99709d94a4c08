"""Vector set: vectors of slides under one name, a method's or a control's."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from gigassl.errors import SettingsError

Control = Literal[
    "", "mean", "mean+std", "mean+mlp", "random-weights", "shuffled-coordinates", "tile-count",
    "clinical", "colour",
]  # fmt: skip
"""What a row of a table is there to be compared with; "" for the methods themselves."""

FIRST_BLOCK = "first_block"
"""Where the provenance of vectors of two streams says how wide the first one is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorSet:
    """One vector a slide, as probes take them.

    Attributes:
        name: what tables call it.
        slide_ids: one a vector.
        vectors: as stored; probes scale them in the training fold where told to.
        first_block: width of a first stream whose weight against the rest is chosen in the training
            folds (composition beside arrangement); None: one stream.
        control: "" for a method, else which control it is.
        control_of: the method it controls, where it belongs to a single one.
        seen: slides that the encoders were pretrained on, where known.
        digest: of the settings that the vectors were made with.

    Raises:
        SettingsError: lengths differ, a slide twice, or vectors that are not finite.
    """

    name: str
    slide_ids: tuple[str, ...]
    vectors: Float[np.ndarray, "slide dim"]
    first_block: int | None = None
    control: Control = ""
    control_of: str = ""
    seen: frozenset[str] = frozenset()
    digest: str = ""

    def __post_init__(self) -> None:
        if len(self.slide_ids) != len(self.vectors):
            raise SettingsError(
                f"'{self.name}' has {len(self.slide_ids)} slides and {len(self.vectors)} vectors"
            )
        if len(set(self.slide_ids)) != len(self.slide_ids):
            raise SettingsError(f"'{self.name}' names a slide more than once")
        bad = ~np.isfinite(self.vectors).all(axis=1)
        if bad.any():
            raise SettingsError(
                f"'{self.name}': {int(bad.sum())} of {len(bad)} vectors hold NaN or infinite "
                f"numbers, first that of '{self.slide_ids[int(bad.argmax())]}'; make them again"
            )
