"""What MIL models look at: attention as their papers have it, else contributions of tiles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from gigassl.evaluate.explain.explanation import Explanation, contributions
from gigassl.evaluate.explain.gradients import STEPS, integrated_gradients
from gigassl.evaluate.mil.attention import AttentionPooling, Clam
from gigassl.evaluate.mil.dsmil import DualStream
from gigassl.evaluate.mil.packed import PackedBags
from gigassl.evaluate.mil.transmil import TransMil


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which number of a model is explained: one of its outputs, times a sign."""

    output: int = 0
    sign: float = 1.0

    def of(self, scores: Float[Tensor, "bag output"]) -> Float[Tensor, " bag"]:
        """The number of each bag."""
        return scores[:, self.output] * self.sign


def asked_of(classes: Sequence[str], number: int) -> Asked:
    """The score of a class: of two, which share one output, the first has minus the second's.

    Args:
        classes: of the model; none where it says a value or a risk.
        number: of the class; 0 for a value or a risk.
    """
    if len(classes) == 2:
        return Asked(sign=1.0 if number == 1 else -1.0)
    return Asked(output=number)


def explain_bag(model: nn.Module, bags: PackedBags, *, asked: Asked) -> Explanation:
    """What a MIL model looks at in one bag, or which tiles its answer comes from.

    ABMIL, plain and gated, and CLAM: the weight of each tile in the pooling. DSMIL: the weight by
    likeness to the critical tile of the output that is explained. TransMIL: what the class token
    takes from each tile in the last layer, mean over heads. These sum to one (TransMIL: with what
    the class token keeps) and say where a model looks, not what for. Models without attention
    (mean, max, mean-mlp): contributions by integrated gradients, from features of zero; what the
    model says of those belongs to no tile.

    Args:
        model: in evaluation mode.
        bags: one bag, as the model takes it.
        asked: which of its numbers is explained.
    """

    def answer(features: Float[Tensor, "row dim"]) -> Float[Tensor, ""]:
        return asked.of(model(replace(bags, features=features)).scores)[0]

    with torch.inference_mode():
        output = float(answer(bags.features))
        nothing = float(answer(torch.zeros_like(bags.features)))
        weights = _attention(model, bags, asked=asked)
    if weights is not None:
        return Explanation(
            score=weights.double().cpu().numpy(),
            meaning="attention",
            method=_SAID.get(type(model), "attention in the pooling"),
            output=output,
        )
    return contributions(
        integrated_gradients(answer, bags.features)[: bags.n_tiles],
        method=f"integrated gradients ({STEPS} steps, from features of zero)",
        output=output,
        offset=nothing,
    )


_SAID = {
    DualStream: "attention by likeness to the critical tile",
    TransMil: "attention of the class token in the last layer, mean over heads",
}


def _attention(
    model: nn.Module, bags: PackedBags, *, asked: Asked
) -> Float32[Tensor, " tile"] | None:
    if isinstance(model, DualStream):
        return model.weights(bags, output=asked.output)
    if isinstance(model, (AttentionPooling, Clam, TransMil)):
        return model.weights(bags)
    return None
