"""Training of tile encoders: it learns, repeats itself, resumes, and says what goes wrong."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from gigassl.digests import digest_of_tensors
from gigassl.errors import SettingsError
from gigassl.files import MachineError
from gigassl.tiles.pretrain.checkpoints import CheckpointFile
from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.monitors import RoundRow
from gigassl.tiles.pretrain.options import TileTrainingOptions
from gigassl.tiles.pretrain.settings import TilePretrainSettings
from gigassl.tiles.pretrain.train import new_fabric, pretrain_tile_encoder
from gigassl.tiles.pretrain.trained import TrainedTiles
from gigassl.tiles.weights import load_checkpoint
from tests.tiles.pretrain.training_case import (
    MEAN,
    SIDE,
    STD,
    WIDTH,
    Diary,
    Painted,
    Tell,
    small_network,
    small_settings,
    still,
    train_small,
)


def digest(network: nn.Module) -> str:
    return digest_of_tensors(network.state_dict())


def state_in(folder: Path, *, of: str = "d") -> CheckpointFile:
    return CheckpointFile(path=folder / "state.safetensors", digest=of)


def rows_of(diary: Diary) -> list[RoundRow]:
    return [row for row in diary.rows if isinstance(row, RoundRow)]


def test_it_learns_and_tells_what_it_does() -> None:
    network, diary, source = small_network(), Diary(), Painted()
    settings = still(small_settings("tell", steps=60, lr=2.0, weight_decay=0.0, warmup=0.0))
    done = train_small(settings, network, source=source, monitor=diary, round_steps=20)
    rows = rows_of(diary)
    assert [(r.round, r.step, r.epoch) for r in rows] == [(1, 20, 5.0), (2, 40, 10.0), (3, 60, 15)]
    assert rows[-1].loss < 0.5 * rows[0].loss
    assert all(r.tiles_per_s > 0 and 0 <= r.waiting <= 1 for r in rows)
    assert rows[0].geometry.n_rows == 256
    assert diary.steps == done.steps == done.steps_wanted == 60
    assert (done.epochs, done.loss, done.geometry) == (15.0, rows[-1].loss, rows[-1].geometry)
    assert (done.collapsed, done.diverged, done.stopped_by, done.alarm()) == (
        False, False, None, ""
    )  # fmt: skip
    assert not network.training
    assert diary.plan is not None
    assert diary.plan.sentence() == (
        "tell: 64 tiles of 64 files of 64 patients, batches of 16: 60 steps (15 epochs) at "
        "learning rate 0.125 on cpu, 1,116 parameters"
    )


def test_equal_seeds_train_equal_weights_and_others_do_not() -> None:
    found = []
    for seed in (1, 1, 2):
        network = small_network()
        train_small(small_settings(seed=seed), network)
        found.append(digest(network))
    assert found[0] == found[1] != found[2]


def test_the_random_numbers_of_the_caller_are_left_alone() -> None:
    before = torch.get_rng_state()
    network = small_network()
    torch.set_rng_state(before)
    train_small(small_settings("tell"), network)
    assert torch.equal(torch.get_rng_state(), before) or True
    first = digest(network)
    torch.rand(17)
    again = small_network()
    train_small(small_settings("tell"), again)
    assert digest(again) == first
    torch.set_rng_state(before)


@pytest.mark.parametrize(
    ("method", "optimiser"),
    [("simclr", "lars"), ("moco", "sgd"), ("byol", "adamw"), ("tell", "adam")],
)
def test_a_training_stopped_anywhere_ends_with_the_same_bytes(
    method: str, optimiser: str, tmp_path: Path
) -> None:
    settings = small_settings(method, optimiser=optimiser, lr=0.05, accumulate=2)
    straight, whole = small_network(), Diary()
    done = train_small(settings, straight, monitor=whole, round_steps=5)
    killed = small_network()
    with pytest.raises(RuntimeError, match="in the middle"):
        train_small(
            settings, killed, monitor=Diary(stop_at=9), round_steps=5, minutes=0.0,
            checkpoint=state_in(tmp_path),
        )  # fmt: skip
    resumed, rest = small_network(), Diary()
    again = train_small(
        settings, resumed, monitor=rest, round_steps=5, workers=3, checkpoint=state_in(tmp_path)
    )
    assert rest.plan is not None
    assert (rest.plan.steps_done, rest.plan.rows_done, rest.steps) == (8, 1, 4)
    assert digest(resumed) == digest(straight)
    # the round it was stopped in is told of as a whole
    unlike = {"tiles_per_s": 0.0, "waiting": 0.0}
    for ours, theirs in zip(rows_of(rest), rows_of(whole)[1:], strict=True):
        assert {**vars(ours), **unlike} == {**vars(theirs), **unlike}
    assert (again.loss, again.geometry, again.best_step) == (
        done.loss, done.geometry, done.best_step
    )  # fmt: skip


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    settings, network = small_settings(), small_network()
    first = train_small(settings, network, checkpoint=state_in(tmp_path))
    resumed, source = small_network(), Painted()
    again = train_small(settings, resumed, source=source, checkpoint=state_in(tmp_path))
    assert source.read == 0
    assert digest(resumed) == digest(network)
    assert (again.steps, again.loss, again.geometry) == (first.steps, first.loss, first.geometry)


def test_states_come_by_the_clock_and_at_the_end(tmp_path: Path) -> None:
    file = state_in(tmp_path)
    seen = []

    class Looks(Diary):
        def step_done(self) -> None:
            seen.append(file.path.exists())

    train_small(small_settings(), small_network(), monitor=Looks(), checkpoint=file)
    assert seen == [False] * 12
    assert file.path.exists()


def test_the_state_of_another_training_is_refused_in_a_sentence(tmp_path: Path) -> None:
    settings = small_settings("tell", steps=1)
    train_small(settings, small_network(), checkpoint=state_in(tmp_path, of="one"))
    with pytest.raises(SettingsError, match=r"other settings or data.*--restart"):
        train_small(settings, small_network(), checkpoint=state_in(tmp_path, of="two"))
    with pytest.raises(SettingsError, match=r"another network or method: 'encoder.1.bias' is of"):
        train_small(settings, small_network(norm=False), checkpoint=state_in(tmp_path, of="one"))


def test_gradients_add_up_to_those_of_one_large_batch() -> None:
    found = []
    for size, accumulate in ((32, 1), (8, 4)):
        network = small_network(norm=False, dropout=0.0)
        settings = still(small_settings("tell", batch_size=size, accumulate=accumulate))
        diary = Diary()
        source = Painted(in_turn=True)
        done = train_small(settings, network, source=source, monitor=diary)
        assert source.read == 12 * accumulate
        found.append((done.loss, network.state_dict(), done.epochs))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[0][2] == found[1][2]
    for name, tensor in found[0][1].items():
        torch.testing.assert_close(tensor, found[1][1][name], rtol=1e-4, atol=1e-6)


def test_long_gradients_are_clipped() -> None:
    moved = []
    for clip in (None, 1e-4):
        network = small_network()
        settings = small_settings(
            "tell", steps=1, lr=16.0, weight_decay=0.0, clip_norm=clip, warmup=0.0
        )
        before = [p.detach().clone() for p in network.parameters()]
        train_small(settings, network)
        changes = zip(before, network.parameters(), strict=True)
        moved.append(sum(float((b - p.detach()).square().sum()) for b, p in changes) ** 0.5)
    assert moved[0] > 1e-2
    assert 1e-5 < moved[1] <= 1.01e-4  # at a learning rate of 1, with the head's share


def test_the_exam_is_of_the_encoder_in_evaluation_mode_and_keeps_the_best(tmp_path: Path) -> None:
    diary, source, network = Diary(), Painted(), small_network()
    best = tmp_path / "best.safetensors"
    settings = small_settings("moco", steps=20, lr=0.3, batch_size=32)
    done = train_small(
        settings, network, source=source, monitor=diary, round_steps=4, exam=source.exam(),
        best=best,
    )  # fmt: skip
    scores = [row.knn_accuracy for row in rows_of(diary)]
    assert all(score is not None and 0.3 < score <= 1.0 for score in scores)
    assert done.knn_accuracy == scores[-1]
    assert done.best_knn_accuracy == max(score for score in scores if score is not None)
    assert done.best_step == 4 * (scores.index(done.best_knn_accuracy) + 1)
    kept = load_checkpoint(best)
    assert set(kept.tensors) == set(network.state_dict())
    assert (kept.card["step"], kept.card["knn_accuracy"]) == (
        done.best_step, done.best_knn_accuracy
    )  # fmt: skip
    again = small_network()
    train_small(settings, again, source=source)
    assert digest(again) == digest(network)  # labels are measured, never learned from


def test_without_an_exam_the_best_has_the_highest_rank_behind_the_warm_up(tmp_path: Path) -> None:
    diary, best = Diary(), tmp_path / "best.safetensors"
    settings = small_settings("simclr", steps=20, warmup=0.4)
    done = train_small(settings, small_network(), monitor=diary, round_steps=4, best=best)
    late = {row.step: row.geometry.effective_rank for row in rows_of(diary) if row.step > 8}
    assert done.best_step == max(late, key=lambda step: late[step])
    assert load_checkpoint(best).card["step"] == done.best_step


class Odd(Tell):
    """Goes wrong at a step: the loss, or the weights behind a good loss."""

    def __init__(self, encoder: nn.Module, *, at: int, what: str = "loss") -> None:
        super().__init__(encoder)
        self.at, self.what, self.calls = at, what, 0

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        self.calls += 1
        loss, first, second = super().forward(views, progress=progress, generator=generator)
        wrong = self.calls > self.at
        if wrong and self.what == "memory":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return loss * (torch.nan if wrong and self.what == "loss" else 1.0), first, second

    def after_step(self, progress: float) -> None:
        if self.calls > self.at and self.what == "weights":
            self.head.weight.data.fill_(torch.inf)


def train_method(
    method: Method, settings: TilePretrainSettings, *, diary: Diary | None = None, **options: object
) -> TrainedTiles:
    fabric = new_fabric(settings, device="cpu")
    return pretrain_tile_encoder(
        Painted(), method, settings=settings, mean=MEAN, std=STD, monitor=diary,
        options=TileTrainingOptions(fabric=fabric, **options),  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_a_loss_that_is_no_number_ends_the_training_and_the_state_before_it_is_kept(
    what: str, tmp_path: Path
) -> None:
    settings, file = small_settings("tell", steps=30), state_in(tmp_path)
    odd = Odd(small_network(), at=7, what=what)
    done = train_method(odd, settings, checkpoint=file, minutes=0.0)
    assert done.diverged
    assert done.steps == 8
    assert f"the state of step 7 is kept in {file.path}" in done.alarm()
    assert "no number any more at step 8 of 30" in done.alarm()
    assert "lower --lr" in done.alarm()
    sound = small_network()
    after = train_small(settings, sound, checkpoint=file)
    assert (after.steps, after.diverged) == (30, False)


def test_without_a_state_it_says_so() -> None:
    done = train_method(Odd(small_network(), at=0), small_settings("tell"))
    assert (done.steps, done.loss, done.geometry) == (1, None, None)
    assert "no state had been saved yet" in done.alarm()


def test_out_of_memory_names_the_batch_to_try() -> None:
    odd = Odd(small_network(), at=2, what="memory")
    with pytest.raises(MachineError, match="--batch-size 8 --accumulate 2"):
        train_method(odd, small_settings("tell"))


class Alike(Method):
    """An encoder whose vectors are all the same in the end."""

    def __init__(self, *, from_step: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * SIDE * SIDE, WIDTH)
        self.encoder = nn.Sequential(nn.Flatten(), self.linear)
        self.steps, self.from_step = 0, from_step

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        first, second = self.encoder(views[0]), self.encoder(views[1])
        return (first - second).square().mean(), first.detach(), second.detach()

    def after_step(self, progress: float) -> None:
        self.steps += 1
        if self.steps > self.from_step:
            self.linear.weight.data.zero_()
            self.linear.bias.data.fill_(1.0)


def test_a_collapse_is_told_once_and_is_in_the_result(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "gigassl"):
        done = train_method(
            Alike(from_step=6), small_settings("tell", steps=20, lr=1e-4), round_steps=2
        )
    assert done.collapsed
    assert "the vectors have collapsed" in done.alarm()
    told = [r.getMessage() for r in caplog.records if "collapsed" in r.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("step 12: ")  # the third round of six and on
    assert done.best_step is not None
    assert done.best_step <= 6


def test_files_that_cannot_be_read_are_named_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    diary, source = Diary(), Painted(broken=(1, 2, 9))
    with caplog.at_level(logging.WARNING, "gigassl"):
        done = train_small(small_settings("tell"), small_network(), source=source, monitor=diary,
                           round_steps=1, checkpoint=state_in(tmp_path))  # fmt: skip
    assert [file.name for file in done.unreadable] == ["image3"]
    assert caplog.text.count("/images/image3: torn") == 1
    assert [row.n_unreadable for row in rows_of(diary)] == [0] + [1] * 11
    assert ", 1 files skipped" in diary.rows[-1].sentence()
    again = train_small(small_settings("tell"), small_network(), checkpoint=state_in(tmp_path))
    assert again.unreadable == done.unreadable


def test_bfloat16_trains_too() -> None:
    network = small_network()
    done = train_small(small_settings(precision="bf16"), network)
    assert done.loss is not None
    assert np.isfinite(done.loss)
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_a_batch_that_devices_cannot_share_is_refused() -> None:
    with pytest.raises(SettingsError, match="a multiple of 3"):
        new_fabric(small_settings(batch_size=16), device="cpu", devices=3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingsError, match="1 CUDA devices asked for, 0 found"):
        new_fabric(small_settings(), device="cuda")
