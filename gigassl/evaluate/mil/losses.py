"""Losses of MIL: of classes, values and survival, and of CLAM's clusters; and what scores mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor
from torch.nn import functional

from gigassl.evaluate.mil.reading import Clusters, Reading
from gigassl.evaluate.task import Asked, Kind, Task

BAG_WEIGHT = 0.7
"""Share of the bags' loss beside that of the clusters, as CLAM's paper has it."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What is true of some bags.

    Attributes:
        kind: of the task.
        value: class number, standardised value, or time under observation.
        event: whether the event was seen; all False unless survival.
        weight: how much each bag counts in the loss.
        classes: number of classes; 0 unless classification.
    """

    kind: Kind
    value: Float32[Tensor, " bag"]
    event: Bool[Tensor, " bag"]
    weight: Float32[Tensor, " bag"]
    classes: int

    def rows(self, rows: Int64[Tensor, " pick"]) -> "Targets":
        """Those of some of the bags."""
        return Targets(
            kind=self.kind, value=self.value[rows], event=self.event[rows],
            weight=self.weight[rows], classes=self.classes,
        )  # fmt: skip

    def to(self, device: torch.device) -> "Targets":
        """The same on another device."""
        return Targets(
            kind=self.kind, value=self.value.to(device), event=self.event.to(device),
            weight=self.weight.to(device), classes=self.classes,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What regression values are divided by: mean and standard deviation of the training bags."""

    mean: float = 0.0
    std: float = 1.0


def scale_of(task: Task, rows: Int64[np.ndarray, " row"]) -> Scale:
    """The scale of the training values; nothing for other kinds of task."""
    if task.kind != "regression":
        return Scale()
    values = task.target[rows]
    return Scale(mean=float(values.mean()), std=float(values.std()) or 1.0)


def targets_of(task: Task, *, scale: Scale, weight: Float64[np.ndarray, " slide"]) -> Targets:
    """What is true of all slides of a task, as networks learn it."""
    event = np.zeros(len(task), dtype=bool) if task.event is None else task.event
    return Targets(
        kind=task.kind,
        value=torch.from_numpy((task.target - scale.mean) / scale.std).float(),
        event=torch.from_numpy(event),
        weight=torch.from_numpy(weight).float(),
        classes=len(task.classes),
    )


def loss_of(reading: Reading, targets: Targets) -> Float32[Tensor, ""]:
    """The loss of a batch: mean of its streams', and with clusters 0.7 of it and 0.3 of theirs."""
    criterion = CRITERIA[targets.kind]
    losses = [criterion(stream.float(), targets) for stream in reading.streams]
    loss = torch.stack(losses).mean()
    if reading.clusters is None or len(reading.clusters.bag) == 0:
        return loss
    return BAG_WEIGHT * loss + (1 - BAG_WEIGHT) * cluster_loss(reading.clusters, targets)


def _class_loss(scores: Float32[Tensor, "bag output"], targets: Targets) -> Float32[Tensor, ""]:
    if scores.shape[1] == 1:
        each = functional.binary_cross_entropy_with_logits(
            scores[:, 0], targets.value, reduction="none"
        )
    else:
        each = functional.cross_entropy(scores, targets.value.long(), reduction="none")
    return (each * targets.weight).mean()


def _value_loss(scores: Float32[Tensor, "bag output"], targets: Targets) -> Float32[Tensor, ""]:
    return functional.mse_loss(scores[:, 0], targets.value)


def cox_loss(scores: Float32[Tensor, "bag output"], targets: Targets) -> Float32[Tensor, ""]:
    """Mean negative log partial likelihood of the events (Cox; ties as Breslow); 0 without events.

    The set at risk is that of the batch.
    """
    risk = scores[:, 0]
    at_risk = targets.value[None, :] >= targets.value[:, None]  # of each bag: who is still observed
    total = risk[None, :].masked_fill(~at_risk, -torch.inf).logsumexp(dim=1)
    return ((total - risk) * targets.event).sum() / targets.event.sum().clamp(min=1)


def cluster_loss(clusters: Clusters, targets: Targets) -> Float32[Tensor, ""]:
    """What CLAM's classifiers of tiles get wrong, mean over bags and classes.

    For the class of the bag the tiles with most attention are of the class and those with least
    are not; for every other class, since classes exclude each other, those with most are not.
    """
    n_picked = torch.bincount(clusters.bag, minlength=len(targets.value)).clamp(min=1)
    share = 1 / n_picked[clusters.bag].float()
    true = targets.value.long()[clusters.bag][:, None]
    own = true == torch.arange(targets.classes, device=true.device)  # [pick, class]
    high = smooth_svm(clusters.highest.float(), own.long())
    low = smooth_svm(clusters.lowest.float(), torch.zeros_like(own, dtype=torch.int64))
    each = torch.where(own, (high + low) / 2, high).mean(dim=1)
    return (each * share).sum() / len(targets.value)


def smooth_svm(
    scores: Float32[Tensor, "*pick 2"], true: Int64[Tensor, "*pick"]
) -> Float32[Tensor, "*pick"]:
    """Smooth top-1 SVM loss with margin and temperature 1 (Berrada et al., arXiv 1802.07595)."""
    margin = 1 - functional.one_hot(true, 2)
    right = scores.gather(-1, true[..., None])[..., 0]
    return (scores + margin).logsumexp(dim=-1) - right


Criterion = Callable[[Float32[Tensor, "bag output"], Targets], Float32[Tensor, ""]]
CRITERIA: Mapping[Kind, Criterion] = {
    "classification": _class_loss,
    "regression": _value_loss,
    "survival": cox_loss,
}
"""Kind of a task → loss of scores; cross-entropy, squared error, Cox partial likelihood."""


def output_of(
    scores: Float32[Tensor, "bag output"], task: Asked, *, scale: Scale
) -> Float64[np.ndarray, "bag said"]:
    """What a table of predictions holds: probabilities, values, or risks."""
    if task.kind != "classification":
        return scores.double().cpu().numpy() * scale.std + scale.mean
    logits = scores.double().cpu()
    if logits.shape[1] == 1:  # one number for two classes: that of the second
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    probabilities: Float64[np.ndarray, "bag said"] = logits.softmax(dim=1).numpy()
    return probabilities
