"""Methods that learn from labels: one question, or several at once with a head each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float32, Int64
from lightly.utils.dist import world_size
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.tiles.labelled_tasks import FileLabels
from gigassl.tiles.nic_networks import begin, block
from gigassl.tiles.pretrain.labelled_source import tiles_of_task
from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.methods.parts import Run, check_limits, in_float32
from gigassl.tiles.pretrain.source import TileBatch

_SLOPE = 0.2


@dataclass(frozen=True, kw_only=True)
class SupervisedOptions:
    """Options of learning from one set of labels.

    Attributes:
        hidden: width of the head's dense layer.
    """

    hidden: int = 256

    def __post_init__(self) -> None:
        check_limits(self, hidden=(1, 65536))


@dataclass(frozen=True, kw_only=True)
class MultitaskOptions:
    """Options of learning from several sets of labels.

    Attributes:
        hidden: width of each head's dense layer.
        dropout: before and behind it.
    """

    hidden: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_limits(self, hidden=(1, 65536), dropout=(0, 0.99))


class Labelled(Method):
    """Tells the classes of tiles; the loss is the mean over tasks of the mean cross-entropy.

    Both views of a tile are shown, so that a batch of n tiles is one of 2n images.
    """

    wants_labels: ClassVar[bool] = True

    def __init__(
        self, encoder: nn.Module, heads: Sequence[nn.Module], *, labels: FileLabels
    ) -> None:
        """Takes the heads, one a task, which answer a logit a class, or one for two classes."""
        super().__init__()
        self.encoder, self.heads = encoder, nn.ModuleList(heads)
        self.tasks = labels.tasks
        self.register_buffer("_task", torch.from_numpy(labels.task), persistent=False)
        self.register_buffer("_label", torch.from_numpy(labels.label), persistent=False)
        self._wanted: tuple[Tensor, Tensor] = (torch.zeros(0), torch.zeros(0))

    def prepare(self, batch: TileBatch, generator: torch.Generator) -> TileBatch:
        """Remembers the tasks and labels of the batch's files."""
        task, label = self.get_buffer("_task"), self.get_buffer("_label")
        file = batch.file.to(task.device)
        self._wanted = task[file], label[file]
        return batch

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """The loss; vectors of both views."""
        vectors = self.encoder(torch.cat([views[0], views[1]]))
        losses, _ = self._judged(vectors)
        first, second = vectors.detach().float().chunk(2)
        return losses.mean(), first, second

    def measure(self, views: Views, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The share of images told wrongly, which decides; the loss; the accuracy of each task."""
        vectors = self.encoder(torch.cat([views[0], views[1]]))
        losses, right = self._judged(vectors)
        each = {f"accuracy {name}": right[k] for k, name in enumerate(self.tasks)}
        return {"wrong": 1.0 - right.mean(), "loss": losses.mean(), **each}

    def _judged(
        self, vectors: Float[Tensor, "image width"]
    ) -> tuple[Float[Tensor, " task"], Float[Tensor, " task"]]:
        """Mean cross-entropy and accuracy of each task.

        Means over the whole batch's images of a task: the mean of all processes is what one would
        have.
        """
        task, label = (wanted.repeat(2) for wanted in self._wanted)
        n_tiles = tiles_of_task(len(vectors) // 2 * world_size(), n_tasks=len(self.tasks))
        losses, rights = [], []
        for number, head in enumerate(self.heads):
            chosen = task == number
            loss, right = in_float32(_told, head(vectors[chosen]), label[chosen])
            share = world_size() / (2 * n_tiles[number])
            losses.append(loss * share)
            rights.append(right * share)
        return torch.stack(losses), torch.stack(rights)


class Supervised(Labelled):
    """One set of labels: a dense layer, leaky ReLU, batch norm and a logit a class.

    The supervised-tumor and supervised-tissue encoders of neural image compression, arXiv
    1811.02840, appendix. Two classes have one logit, whose sigmoid is the second one's probability.
    """

    def __init__(self, encoder: nn.Module, *, options: SupervisedOptions, run: Run) -> None:
        """A head behind the encoder.

        Raises:
            SettingsError: no labels, or those of several tasks.
        """
        labels = _labels_of(run, method="supervised")
        if len(labels.tasks) > 1:
            raise SettingsError(
                f"method 'supervised' learns one task; got {', '.join(labels.tasks)}; take "
                "--method multitask"
            )
        (classes,) = labels.classes
        dense = block(nn.Linear(run.width, options.hidden))
        n_logits = 1 if len(classes) == 2 else len(classes)
        head = nn.Sequential(*dense, nn.Linear(options.hidden, n_logits))
        begin(head)
        super().__init__(encoder, [head], labels=labels)


class Multitask(Labelled):
    """Several sets of labels, a head each: dropout, dense layer, leaky ReLU, dropout, dense.

    Tellez et al., Extending Unsupervised Neural Image Compression With Supervised Multitask
    Learning, MIDL 2020, PMLR 121:770-783. No task weighs more than another.
    """

    def __init__(self, encoder: nn.Module, *, options: MultitaskOptions, run: Run) -> None:
        """Heads behind the encoder.

        Raises:
            SettingsError: no labels, or more tasks than a batch has room for.
        """
        labels = _labels_of(run, method="multitask")
        if run.batch_size < 2 * len(labels.tasks):
            raise SettingsError(
                f"a batch of {run.batch_size} tiles has no room for two of each of "
                f"{len(labels.tasks)} tasks; give a --batch-size of {2 * len(labels.tasks)} or more"
            )
        heads = [
            nn.Sequential(
                nn.Dropout(options.dropout),
                nn.Linear(run.width, options.hidden),
                nn.LeakyReLU(_SLOPE),
                nn.Dropout(options.dropout),
                nn.Linear(options.hidden, len(classes)),
            )
            for classes in labels.classes
        ]
        for head in heads:
            begin(head)
        super().__init__(encoder, heads, labels=labels)


def _labels_of(run: Run, *, method: str) -> FileLabels:
    if run.labels is None:
        raise SettingsError(
            f"method '{method}' learns from labels; give it folders of class folders, or tables of "
            "labels beside their images"
        )
    return run.labels


def _told(
    logits: Float[Tensor, "image logit"], label: Int64[Tensor, " image"]
) -> Float[Tensor, " 2"]:
    """Sums over images: of the cross-entropy, and of those told rightly."""
    if logits.shape[1] == 1:
        # a sigmoid is the softmax of two logits of which the first is 0
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    loss = nn.functional.cross_entropy(logits, label, reduction="sum")
    return torch.stack([loss, (logits.argmax(dim=1) == label).sum().to(loss.dtype)])
