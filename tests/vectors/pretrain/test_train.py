"""Training: it learns, repeats itself, resumes to the same bytes, gives up on collapse."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gigassl.digests import digest_of_tensors
from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.checkpoints import CheckpointFile
from gigassl.training.monitors import LogRow, Quiet, TrainingPlan
from gigassl.training.optimisers import OPTIMISERS
from gigassl.vectors.mlp import MeanOfTiles
from gigassl.vectors.packed import PackedTiles, mean_of_bags
from gigassl.vectors.pretrain.monitors import EpochRow, Plan
from gigassl.vectors.pretrain.settings import PRESETS, PretrainSettings
from gigassl.vectors.pretrain.train import Trained, TrainingOptions, new_fabric, pretrain
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.tile_store import TileStore
from gigassl.vectors.views import ViewSettings
from tests.vectors.pretrain.cohorts import DIM, OF_SLIDES, small_store


def settings(**changes: object) -> PretrainSettings:
    quick = {"epochs": 4, "batch_size": 6, "lr": 0.02, "views": ViewSettings(tiles=3)}
    return PretrainSettings(**{**quick, **changes})  # type: ignore[arg-type]


def small_mlp() -> nn.Module:
    # with dropout, whose random numbers must be the run's own too
    return new_network("mlp", dim=DIM, cell=112.0, seed=0, options={"width": 24, "dropout": 0.2})


class Diary(Quiet):
    """Notes all it is told; raises where it is told to."""

    def __init__(self, *, stop_after: int = 10**9) -> None:
        self.plan: Plan | None = None
        self.rows: list[EpochRow] = []
        self.steps, self.stop_after = 0, stop_after

    def started(self, plan: TrainingPlan) -> None:
        assert isinstance(plan, Plan)
        self.plan = plan

    def step_done(self) -> None:
        self.steps += 1

    def row_done(self, row: LogRow) -> None:
        assert isinstance(row, EpochRow)
        self.rows.append(row)
        if row.epoch > self.stop_after:
            raise KeyboardInterrupt


def run(
    network: nn.Module, chosen: PretrainSettings, *, store: TileStore | None = None,
    diary: Diary | None = None, **options: object,
) -> Trained:  # fmt: skip
    fabric = new_fabric(chosen, device="cpu")
    return pretrain(
        store or small_store(), network, settings=chosen, monitor=diary,
        options=TrainingOptions(fabric=fabric, **options),  # type: ignore[arg-type]
    )  # fmt: skip


def test_it_learns_to_tell_slides_apart() -> None:
    network, diary = small_mlp(), Diary()
    chosen = settings(epochs=30, lr=0.1, temperature=0.2, views=ViewSettings(tiles=8))
    done = run(network, chosen, store=small_store(n_slides=24), diary=diary)
    assert diary.rows[-1].loss < 0.6 * diary.rows[0].loss
    assert [row.epoch for row in diary.rows] == list(range(1, 31))
    assert diary.plan is not None
    assert diary.steps == diary.plan.steps == 120
    assert done.epochs == 30
    assert not done.collapsed
    assert done.loss == diary.rows[-1].loss
    assert not network.training


def test_equal_seeds_train_equal_weights_and_others_do_not() -> None:
    digests = []
    for seed in (1, 1, 2):
        network = small_mlp()
        run(network, settings(seed=seed))
        digests.append(digest_of_tensors(network.state_dict()))
    assert digests[0] == digests[1] != digests[2]


def test_the_random_numbers_of_the_caller_are_left_alone() -> None:
    before = torch.get_rng_state()
    network = small_mlp()
    torch.set_rng_state(before)
    pretrain_state = torch.get_rng_state()
    run(network, settings(epochs=1, objective="byol"))
    # layers that are made draw from it, and are then drawn anew; training itself must not
    first = digest_of_tensors(network.state_dict())
    torch.rand(17)
    again = small_mlp()
    run(again, settings(epochs=1, objective="byol"))
    assert digest_of_tensors(again.state_dict()) == first
    torch.set_rng_state(pretrain_state)


@pytest.mark.parametrize("optimiser", sorted(OPTIMISERS))
@pytest.mark.parametrize("objective", ["simclr", "byol"])
def test_a_killed_training_ends_with_the_same_bytes(
    objective: str, optimiser: str, tmp_path: Path
) -> None:
    chosen = settings(objective=objective, optimiser=optimiser)
    straight = small_mlp()
    whole = run(straight, chosen)
    file = CheckpointFile(path=tmp_path / "state.safetensors", digest="d")
    killed, diary = small_mlp(), Diary(stop_after=2)  # in its third epoch, before its checkpoint
    with pytest.raises(KeyboardInterrupt):
        run(killed, chosen, diary=diary, checkpoint=file)
    resumed, diary = small_mlp(), Diary()
    done = run(resumed, chosen, diary=diary, checkpoint=file)
    assert [row.epoch for row in diary.rows] == [3, 4]
    assert diary.plan is not None
    assert diary.plan.epochs_done == 2
    assert digest_of_tensors(resumed.state_dict()) == digest_of_tensors(straight.state_dict())
    assert done == whole


def test_checkpoints_come_at_their_epochs_and_at_the_last(tmp_path: Path) -> None:
    file = CheckpointFile(path=tmp_path / "state.safetensors", digest="d", every=3)
    seen = []

    class Looks(Diary):
        def row_done(self, row: LogRow) -> None:
            seen.append(file.path.exists())

    run(small_mlp(), settings(epochs=5), diary=Looks(), checkpoint=file)
    assert seen == [False, False, False, True, True]
    diary = Diary()
    done = run(small_mlp(), settings(epochs=5), diary=diary, checkpoint=file)
    assert (diary.rows, done.epochs, done.loss) == ([], 5, None)  # all was done


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    run(small_mlp(), settings(epochs=1), checkpoint=CheckpointFile(path=path, digest="one"))
    with pytest.raises(SettingsError, match="--restart"):
        run(small_mlp(), settings(epochs=1), checkpoint=CheckpointFile(path=path, digest="two"))


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    from gigassl.tiles.weights import save_checkpoint

    path = tmp_path / "state.safetensors"
    save_checkpoint(path, {"a": torch.zeros(1)}, card={})
    with pytest.raises(SettingsError, match="no checkpoint of this gigassl"):
        run(small_mlp(), settings(epochs=1), checkpoint=CheckpointFile(path=path, digest="d"))


class Constant(nn.Module):
    """Vectors that are all alike, whatever it learns."""

    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, tiles: PackedTiles) -> Tensor:
        return self.weight.expand(tiles.n_bags, -1) + 0.0 * tiles.features.sum()


class Explodes(nn.Module):
    """Vectors that stop being numbers."""

    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(DIM, 8)
        self.calls = 0

    def forward(self, tiles: PackedTiles) -> Tensor:
        self.calls += 1
        mean = mean_of_bags(tiles.features, tiles.bag, n_bags=tiles.n_bags)
        scale = torch.nan if self.calls > 8 else 1.0
        return self.linear(mean) * scale  # type: ignore[no-any-return]


def test_collapsed_vectors_end_the_training_early() -> None:
    diary = Diary()
    done = run(Constant(), settings(epochs=50, stop_on_collapse=3), diary=diary)
    assert done.collapsed
    assert done.epochs == len(diary.rows) == 3


def test_a_collapse_is_counted_on_after_a_kill(tmp_path: Path) -> None:
    chosen = settings(epochs=50, stop_on_collapse=3)
    file = CheckpointFile(path=tmp_path / "state.safetensors", digest="d")
    with pytest.raises(KeyboardInterrupt):
        run(Constant(), chosen, diary=Diary(stop_after=2), checkpoint=file)
    assert run(Constant(), chosen, checkpoint=file).epochs == 3


def test_a_loss_that_is_no_number_ends_the_training_at_once() -> None:
    diary = Diary()
    done = run(Explodes(), settings(epochs=50), diary=diary)
    assert done.collapsed
    assert done.epochs == len(diary.rows) < 5


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(SettingsError, match="MeanOfTiles has no weights to learn"):
        run(MeanOfTiles(dim=DIM), settings())


def test_a_small_cohort_gets_a_smaller_rate_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    diary = Diary()
    with caplog.at_level(logging.WARNING, "gigassl"):
        run(small_mlp(), settings(epochs=1, batch_size=256, lr=0.03), diary=diary)
    assert "do not fill a batch of 256: batches of 12 are used" in caplog.text
    assert diary.plan is not None
    assert diary.plan.lr == pytest.approx(0.03 * 12 / 256)


def test_slides_of_a_patient_are_never_in_one_batch() -> None:
    # all slides of a patient are the same slide: as negatives they would keep the loss high
    store = small_store(n_slides=16, slides_a_patient=2)
    diary = Diary()
    run(small_mlp(), settings(epochs=1, batch_size=8), store=store, diary=diary)
    assert diary.plan is not None
    assert (diary.plan.n_patients, diary.plan.batch_size, diary.plan.n_batches) == (8, 8, 2)


@pytest.mark.parametrize("objective", OF_SLIDES)
def test_every_objective_trains(objective: str) -> None:
    diary = Diary()
    done = run(small_mlp(), settings(objective=objective, lr=0.002), diary=diary)
    assert done.epochs == 4
    assert all(torch.isfinite(torch.tensor(row.loss)) for row in diary.rows)


def test_labels_are_measured_but_not_learned_from() -> None:
    store = small_store(n_slides=24)
    labels = ["a" if i % 2 else None if i % 3 == 0 else "b" for i in range(24)]
    with_labels, without, diary = small_mlp(), small_mlp(), Diary()
    done = run(with_labels, settings(), store=store, labels=labels, diary=diary)
    plain = run(without, settings(), store=store)
    assert digest_of_tensors(with_labels.state_dict()) == digest_of_tensors(without.state_dict())
    assert plain.knn_accuracy is None
    assert done.knn_accuracy is not None
    assert all(0 <= (row.knn_accuracy or 0) <= 1 for row in diary.rows)


class Prepared(nn.Module):
    """Needs the mean of the features before it is trained."""

    mean: Tensor
    width = DIM

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(DIM, DIM)
        self.register_buffer("mean", torch.zeros(DIM))

    def prepare(self, features: Tensor) -> None:
        self.mean.copy_(features.mean(dim=0))

    def forward(self, tiles: PackedTiles) -> Tensor:
        found: Tensor = self.linear(tiles.features - self.mean)
        return mean_of_bags(found, tiles.bag, n_bags=tiles.n_bags)


def test_a_network_sees_a_sample_of_the_tiles_first() -> None:
    store, network = small_store(), Prepared()
    run(network, settings(epochs=1), store=store)
    expected = store.features.float().mean(dim=0)
    torch.testing.assert_close(network.mean, expected, atol=0.05, rtol=0)


def test_bfloat16_trains_too() -> None:
    network = small_mlp()
    done = run(network, settings(precision="bf16"))
    assert not done.collapsed
    assert all(p.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"temperature": -1.0}, {"seed": -1},
              {"weight_decay": -0.1}, {"stop_on_collapse": 0}],
)  # fmt: skip
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=str(next(iter(wrong.values())))):
        settings(**wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingsError, match="1 CUDA devices asked for, 0 found"):
        new_fabric(settings(), device="cuda")
    with pytest.raises(SettingsError, match="cannot train on 1 × tpi"):
        new_fabric(settings(), device="tpi")


def test_the_published_preset_holds_the_released_defaults() -> None:
    published = PRESETS["giga-ssl"]
    assert (published.objective, published.temperature, published.optimiser) == (
        "simclr", 0.05, "adam"
    )  # fmt: skip
    assert (published.lr, published.batch_size, published.weight_decay) == (0.03, 256, 0.0)
    assert (published.epochs, published.warmup_epochs) == (1000, 10)
    views = published.views
    assert (views.tiles, views.rotation, views.flip, views.scale) == (5, "any", True, (0.7, 1.3))
    assert (views.crop, views.window) == (1.0, "scatter")
