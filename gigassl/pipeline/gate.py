"""Quality gate: whether the vectors of a finished table have collapsed."""

from collections.abc import Mapping
from dataclasses import dataclass

from gigassl.representation import (
    FEWEST,
    HIGHEST_COSINE,
    LOWEST_RANK,
    effective_rank,
    mean_cosine,
)
from gigassl.vectors.table import SlideTable

MOST_ROWS = 100_000
"""Of larger tables so many rows are looked at, evenly taken: float64 copies of all are large."""


@dataclass(frozen=True, kw_only=True)
class VectorQuality:
    """Two numbers about the vectors of a table.

    Attributes:
        effective_rank: directions that the vectors fill about their mean, by entropy.
        mean_cosine: over all pairs of slides.
    """

    effective_rank: float
    mean_cosine: float

    @property
    def collapsed(self) -> bool:
        """Whether the vectors tell slides apart no more."""
        return self.effective_rank < LOWEST_RANK or self.mean_cosine > HIGHEST_COSINE

    def summary(self) -> dict[str, float | bool]:
        """The numbers in plain values, for ``--json``."""
        return {
            "effective_rank": self.effective_rank,
            "mean_cosine": self.mean_cosine,
            "collapsed": self.collapsed,
        }

    def sentence(self) -> str:
        """The numbers."""
        return f"effective rank {self.effective_rank:.1f}, mean cosine {self.mean_cosine:.4f}"

    def alarm(self) -> str:
        """What to do about vectors that have collapsed."""
        return (
            f"the vectors have collapsed: {self.sentence()} (wanted: at least {LOWEST_RANK:g}, at "
            f"most {HIGHEST_COSINE}); train the slide encoder longer or otherwise, compare with "
            "--slide-encoder mean, or accept them with --allow-collapsed"
        )


def quality_of(table: SlideTable | None) -> VectorQuality | None:
    """The quality of a slide encoder's vectors; None for poolings and for too few slides.

    Poolings are not judged: mean features of one tissue may all have cosines above 0.95, and
    still tell slides apart.
    """
    if table is None or len(table) < FEWEST:
        return None
    settings = table.provenance.get("settings", {})
    if not isinstance(settings.get("slide_encoder"), Mapping):
        return None
    step = -(-len(table) // MOST_ROWS)
    vectors = table.embeddings[::step].astype("float64")
    return VectorQuality(
        effective_rank=effective_rank(vectors - vectors.mean(axis=0)),
        mean_cosine=mean_cosine(vectors),
    )
