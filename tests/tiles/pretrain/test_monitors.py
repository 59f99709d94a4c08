"""What a training keeps to measure itself by, and what it says it will do."""

import json

import numpy as np
import torch

from gigassl.tiles.pretrain.monitors import Recent, RoundRow
from gigassl.tiles.pretrain.options import planned_steps, round_length
from gigassl.tiles.pretrain.settings import TilePretrainSettings
from gigassl.training.geometry import geometry


def batch(number: int, *, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    vectors = torch.full((size, 3), float(number))
    return vectors, -vectors


def numbers(recent: Recent) -> list[int]:
    return [int(n) for n in recent.kept()[:, 0, 0].tolist()]


def test_the_last_batches_are_kept_and_no_more_than_needed() -> None:
    recent = Recent(20)
    for number in range(5):
        recent.note(*batch(number))
    assert numbers(recent) == [2] * 8 + [3] * 8 + [4] * 8
    assert torch.equal(recent.kept()[:, 0], -recent.kept()[:, 1])
    recent.forget()
    assert len(recent) == 0


def test_what_is_put_back_goes_on_as_if_nothing_had_happened() -> None:
    undisturbed, stopped = Recent(20), Recent(20)
    for number in range(4):
        undisturbed.note(*batch(number))
        stopped.note(*batch(number))
    resumed = Recent(20)
    resumed.restore(stopped.kept(), batch=8)
    for recent in (undisturbed, resumed):
        recent.note(*batch(9))
    assert numbers(resumed) == numbers(undisturbed)


def test_rounds_are_epochs_unless_those_are_very_short_or_very_long() -> None:
    def length(n_tiles: int, **settings: int) -> int:
        return round_length(
            TilePretrainSettings(batch_size=100, **settings),  # type: ignore[arg-type]
            n_tiles=n_tiles,
        )

    assert length(5_000, epochs=10) == 50
    assert length(5_000, epochs=10, accumulate=2) == 25
    assert length(200, epochs=1_000) == 20  # a hundredth of 2000 steps
    assert length(1_000_000) == 500
    assert length(100, steps=3) == 1


def test_an_epoch_is_as_many_tiles_as_there_are() -> None:
    settings = TilePretrainSettings(epochs=4, batch_size=10)
    assert planned_steps(settings, n_tiles=105) == 42
    assert planned_steps(settings, n_tiles=1) == 1
    assert planned_steps(TilePretrainSettings(steps=7, epochs=4), n_tiles=105) == 7


def test_what_decides_is_the_same_after_a_checkpoint_with_sorted_keys() -> None:
    vectors = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    row = RoundRow(
        round=1, step=5, epoch=0.5, loss=1.0, lr=0.1, tiles_per_s=9.0, waiting=0.0,
        geometry=geometry(vectors, vectors), measured={"wrong": 0.25, "accuracy a": 0.75},
    )  # fmt: skip
    kept = json.loads(json.dumps(row.plain(), sort_keys=True))
    assert RoundRow.of_plain(kept) == row
    assert RoundRow.of_plain(kept).validation == 0.25
