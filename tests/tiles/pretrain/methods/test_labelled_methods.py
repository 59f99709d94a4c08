"""Methods that learn from labels: their losses image by image, heads, and what they refuse."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.tiles.labelled_tasks import FileLabels
from gigassl.tiles.pretrain.catalogue import (
    METHOD_NETWORKS,
    METHOD_PRESETS,
    learns_from_labels,
    new_method,
)
from gigassl.tiles.pretrain.methods.labelled import Labelled
from gigassl.tiles.pretrain.source import TileBatch
from gigassl.training.optimisers import new_optimiser
from tests.tiles.pretrain.methods.cases import WIDTH, convolutions, toy_views

N = 9
TASKS = {"lymph": ("normal", "tumour"), "tissue": ("fat", "mucus", "muscle")}


def labels_of(*tasks: str, n_files: int = 40) -> FileLabels:
    """Files of the tasks in turn; labels in turn as well."""
    task = np.arange(n_files) % len(tasks)
    counts = np.array([len(TASKS[name]) for name in tasks])
    return FileLabels(
        tasks=tasks, classes=tuple(TASKS[name] for name in tasks), task=task.astype(np.int64),
        label=(np.arange(n_files) // len(tasks) % counts[task]).astype(np.int64),
    )  # fmt: skip


def learner(name: str, labels: FileLabels | None, **options: float) -> Labelled:
    settings = replace(METHOD_PRESETS[name], options=options, batch_size=N)
    made = new_method(settings, convolutions(norm=True), width=WIDTH, steps=10, labels=labels)
    assert isinstance(made, Labelled)
    return made


def batch_of(files: list[int]) -> TileBatch:
    tiles = torch.zeros(len(files), 4, 4, 3, dtype=torch.uint8)
    return TileBatch(tiles, file=torch.tensor(files))


def chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def slow_scores(
    made: Labelled, views: list[Tensor], files: list[int], labels: FileLabels
) -> tuple[float, dict[str, float]]:
    """Mean over tasks of the mean cross-entropy and of the share told rightly; image by image."""
    losses: dict[int, list[float]] = {}
    right: dict[int, list[bool]] = {}
    for view in views:
        vectors = made.encoder(view)
        for place, file in enumerate(files):
            task, label = int(labels.task[file]), int(labels.label[file])
            logits = made.heads[task](vectors[place : place + 1])[0].double().tolist()
            if len(logits) == 1:
                p = 1 / (1 + math.exp(-logits[0]))
                chances = [1 - p, p]
            else:
                total = sum(math.exp(x) for x in logits)
                chances = [math.exp(x) / total for x in logits]
            losses.setdefault(task, []).append(-math.log(chances[label]))
            right.setdefault(task, []).append(max(chances) == chances[label])
    mean = [sum(x) / len(x) for x in losses.values()]
    shares = {labels.tasks[task]: sum(x) / len(x) for task, x in right.items()}
    return sum(mean) / len(mean), shares


@pytest.mark.parametrize(
    ("name", "tasks"),
    [("multitask", ("lymph", "tissue")), ("supervised", ("lymph",)), ("supervised", ("tissue",))],
)
def test_loss_and_accuracy_are_means_over_tasks_of_means_over_images(
    name: str, tasks: tuple[str, ...]
) -> None:
    labels = labels_of(*tasks)
    made, views = learner(name, labels), toy_views(N)
    made.eval()
    # five tiles of the first task and four of the second, as they are dealt
    files = [0, 2, 4, 1, 3, 6, 5, 7, 8]
    prepared = made.prepare(batch_of(files), chance())
    assert prepared.file.tolist() == files
    with torch.no_grad():
        loss, first, second = made(views, progress=0.0, generator=chance())
        wanted, shares = slow_scores(made, views, files, labels)
        measured = made.measure(views, chance())
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    torch.testing.assert_close(first, made.encoder(views[0]))
    torch.testing.assert_close(second, made.encoder(views[1]))
    assert list(measured) == ["wrong", "loss", *(f"accuracy {task}" for task in tasks)]
    assert float(measured["loss"]) == pytest.approx(wanted, rel=1e-5)
    for task in tasks:
        assert float(measured[f"accuracy {task}"]) == pytest.approx(shares[task], abs=1e-6)
    mean = sum(shares.values()) / len(shares)
    assert float(measured["wrong"]) == pytest.approx(1 - mean, abs=1e-6)


def layers(made: Labelled) -> list[list[nn.Module]]:
    return [list(head.children()) for head in made.heads]


def widths(head: list[nn.Module]) -> list[int]:
    return [layer.out_features for layer in head if isinstance(layer, nn.Linear)]


def test_heads_are_those_of_the_papers() -> None:
    heads = layers(learner("multitask", labels_of("lymph", "tissue")))
    for head, n_classes in zip(heads, (2, 3), strict=True):
        kinds = [nn.Dropout, nn.Linear, nn.LeakyReLU, nn.Dropout, nn.Linear]
        assert [type(layer) for layer in head] == kinds
        assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.1, 0.1]
        assert widths(head) == [256, n_classes]
    for task, n_logits in (("lymph", 1), ("tissue", 3)):
        (head,) = layers(learner("supervised", labels_of(task)))
        kinds = [nn.Linear, nn.LeakyReLU, nn.BatchNorm1d, nn.Linear]
        assert [type(layer) for layer in head] == kinds
        assert widths(head) == [256, n_logits]


@pytest.mark.parametrize("name", ["multitask", "supervised"])
def test_labels_are_learned(name: str) -> None:
    labels = labels_of("lymph", "tissue") if name == "multitask" else labels_of("tissue")
    made = learner(name, labels)
    optimiser = new_optimiser("adam", made, lr=3e-3, weight_decay=0.0)
    files = list(range(N))
    made.prepare(batch_of(files), chance())
    losses = []
    for _ in range(80):
        loss = made(toy_views(N), progress=0.0, generator=chance())[0]
        optimiser.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in made.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.4 * losses[0]


def test_labels_are_no_part_of_the_state() -> None:
    names = set(learner("multitask", labels_of("lymph", "tissue")).state_dict())
    assert all(name.startswith(("encoder.", "heads.")) for name in names)


def test_what_cannot_be_learned_is_refused() -> None:
    with pytest.raises(SettingsError, match="method 'multitask' learns from labels"):
        learner("multitask", None)
    with pytest.raises(SettingsError, match="learns one task; got lymph, tissue"):
        learner("supervised", labels_of("lymph", "tissue"))
    settings = replace(METHOD_PRESETS["multitask"], batch_size=3)
    with pytest.raises(SettingsError, match="no room for two of each of 2 tasks"):
        new_method(
            settings, convolutions(), width=WIDTH, steps=1, labels=labels_of("lymph", "tissue")
        )
    with pytest.raises(SettingsError, match=r"dropout lies from 0 to 0\.99"):
        learner("multitask", labels_of("lymph"), dropout=1.0)


def test_presets_are_the_published_ones() -> None:
    assert learns_from_labels("multitask")
    assert learns_from_labels("supervised")
    assert not learns_from_labels("vae")
    assert not learns_from_labels("no such method")
    assert METHOD_NETWORKS["multitask"] == "nic:bigan"
    assert METHOD_NETWORKS["supervised"] == "nic:vae"
    for name, images, rate in (("multitask", 128, 1e-3), ("supervised", 64, 1e-2)):
        preset = METHOD_PRESETS[name]
        assert 2 * preset.batch_size == images  # both views of each tile
        assert preset.lr * preset.batch_size / 256 == pytest.approx(rate)
        assert (preset.optimiser, preset.schedule, preset.validation) == ("adam", "plateau", 0.2)
