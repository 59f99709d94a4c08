"""The exam: the encoder as it will be used, on labelled tiles of any side."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gigassl.tiles.labelled_images import LabelledTiles
from gigassl.tiles.pretrain.exam import MOST, Exam
from gigassl.tiles.pretrain.train import new_fabric
from gigassl.training.geometry import knn_accuracy
from tests.tiles.pretrain.training_case import small_settings


class MeanColour(nn.Module):
    """Mean colour of what it is shown; nothing of use while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shapes.append(tuple(images.shape))
        return images.mean(dim=(2, 3)) * (0.0 if self.training else 1.0)


def labelled(n: int, *, side: int) -> LabelledTiles:
    """One colour a tile, so that sides do not matter; every third label is another's."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    colour = np.where(np.arange(n) % 9 == 0, (labels + 1) % 3, labels)[:, None] == np.arange(3)
    noisy = (60 + 120 * colour + rng.integers(0, 50, (n, 3))).astype(np.uint8)
    tiles = np.broadcast_to(noisy[:, None, None], (n, side, side, 3)).copy()
    return LabelledTiles(
        tiles=tiles, labels=labels, groups=tuple(f"g{i % 7}" for i in range(n)),
        images=tuple(str(i) for i in range(n)), unreadable=(),
    )  # fmt: skip


def exam_of(tiles: LabelledTiles) -> Exam:
    return Exam(
        tiles, side_px=16, colours=((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)), batch=32,
        generator=np.random.default_rng(0),
    )  # fmt: skip


@pytest.mark.parametrize("side", [8, 16, 33])
def test_it_is_knn_accuracy_of_the_vectors_in_evaluation_mode(side: int) -> None:
    tiles, encoder = labelled(90, side=side), MeanColour().train()
    found = exam_of(tiles).accuracy(encoder, new_fabric(small_settings(), device="cpu"))
    assert encoder.shapes == [(32, 3, 16, 16), (32, 3, 16, 16), (26, 3, 16, 16)]
    means = tiles.tiles[:, 0, 0].astype(np.float32) / np.float32(255)
    mean, std = np.array([[0.4, 0.5, 0.6], [0.2, 0.3, 0.4]], np.float32)
    vectors = (means - mean) / std
    groups = np.arange(90) % 7
    expected = knn_accuracy(vectors, labels=tiles.labels, patient=groups)
    assert found == expected
    assert expected is not None
    assert 0.8 < expected < 0.95


def test_of_very_many_tiles_a_fixed_sample_is_taken() -> None:
    tiles = labelled(MOST + 500, side=2)
    fabric = new_fabric(small_settings(), device="cpu")
    encoders = MeanColour(), MeanColour()
    first, second = (exam_of(tiles).accuracy(encoder, fabric) for encoder in encoders)
    assert first == second
    assert sum(shape[0] for shape in encoders[0].shapes) == MOST
    assert torch.is_grad_enabled()
