"""Reading: what a MIL network says about a batch of bags."""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """What CLAM's instance classifiers say of the tiles that attention ranks first and last.

    Attributes:
        highest, lowest: scores for "not of the class" and "of the class".
        bag: which bag each picked tile belongs to.
    """

    highest: Float[Tensor, "pick class 2"]
    lowest: Float[Tensor, "pick class 2"]
    bag: Int64[Tensor, " pick"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a network says about the bags of a batch.

    Attributes:
        scores: the prediction: logits, values or log-hazards.
        streams: what the loss is taken of, and averaged over; the scores themselves in most.
        clusters: of CLAM, for its second loss.
    """

    scores: Float[Tensor, "bag output"]
    streams: tuple[Float[Tensor, "bag output"], ...]
    clusters: Clusters | None = None


def plain_reading(scores: Float[Tensor, "bag output"]) -> Reading:
    """The reading of a network that gives scores and nothing else."""
    return Reading(scores=scores, streams=(scores,))
