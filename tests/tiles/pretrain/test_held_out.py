"""Patients held out: who they are, what is measured of them, and a resume that knows it all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from gigassl.digests import digest_of_tensors
from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.checkpoints import CheckpointFile
from gigassl.tiles.pretrain.held_out import divided
from gigassl.tiles.pretrain.image_source import ImageTiles
from gigassl.tiles.pretrain.method import Views
from gigassl.tiles.pretrain.monitors import RoundRow
from gigassl.tiles.pretrain.options import TileTrainingOptions
from gigassl.tiles.pretrain.schedule import PATIENCE
from gigassl.tiles.pretrain.settings import SamplingSettings, TilePretrainSettings
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch
from gigassl.tiles.pretrain.train import new_fabric, pretrain_tile_encoder
from gigassl.tiles.pretrain.trained import TrainedTiles
from gigassl.tiles.weights import load_checkpoint
from tests.tiles.pretrain.training_case import (
    MEAN,
    STD,
    Diary,
    Painted,
    Tell,
    small_network,
    small_settings,
)


class Divisible(Painted):
    """Painted tiles, each four of one patient; notes which are drawn."""

    def __init__(self, numbers: Sequence[int] = range(64)) -> None:
        super().__init__()
        self.numbers, self.drawn = list(numbers), set[int]()
        self.names = tuple(f"image{k}" for k in self.numbers)
        self.patient_ids = tuple(f"patient{k // 4}" for k in self.numbers)
        self.n_tiles = len(self.numbers)
        self.parts: list[Divisible] = []

    def some(self, files: Sequence[int]) -> "Divisible":
        self.parts.append(Divisible([self.numbers[k] for k in files]))
        return self.parts[-1]

    def batches(self, plan: BatchPlan) -> Iterator[TileBatch]:
        for batch in super().batches(plan):
            self.drawn |= {self.numbers[k] for k in batch.file.tolist()}
            yield TileBatch(self.tiles[[self.numbers[k] for k in batch.file]], file=batch.file)


class Judged(Tell):
    """Measures the error that it makes; notes whether it was ever asked while it learned."""

    def __init__(self) -> None:
        super().__init__(small_network())
        self.training_seen = False

    def measure(self, views: Views, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        self.training_seen |= self.training or torch.is_grad_enabled()
        error = (self.head(self.encoder(views[0])) - views[1].mean(dim=(2, 3))).square().mean()
        return {"loss": error, "second": 2 * error}


def settings_of(**changes: object) -> TilePretrainSettings:
    return small_settings(
        "tell", **{"validation": 0.25, "lr": 0.05, "steps": 24, "warmup": 0.0, **changes}
    )


def train(
    settings: TilePretrainSettings, method: Tell, *, source: Painted | None = None,
    diary: Diary | None = None, **options: object,
) -> TrainedTiles:  # fmt: skip
    return pretrain_tile_encoder(
        source or Divisible(), method, settings=settings, mean=MEAN, std=STD, monitor=diary,
        options=TileTrainingOptions(
            fabric=new_fabric(settings, device="cpu"), round_steps=2,
            **options,  # type: ignore[arg-type]
        ),
    )  # fmt: skip


def rows_of(diary: Diary) -> list[RoundRow]:
    return [row for row in diary.rows if isinstance(row, RoundRow)]


@pytest.mark.parametrize("share", [0.01, 0.25, 0.99])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_patient_is_on_both_sides(share: float, seed: int) -> None:
    source = Divisible()
    learned, held = divided(source, settings_of(validation=share, seed=seed))
    assert held is not None
    here, there = set(learned.patient_ids), set(held.patient_ids)
    assert not here & there
    assert here | there == set(source.patient_ids)
    assert len(there) == min(max(1, round(16 * share)), 15)
    assert learned.n_tiles + held.n_tiles == 64


def test_seeds_hold_out_others_and_files_keep_their_numbers() -> None:
    chosen = set()
    for seed in range(4):
        _, held = divided(Divisible(), settings_of(seed=seed))
        assert held is not None
        chosen.add(tuple(held.names))
        batch = next(held.batches(BatchPlan(last=1, size=16)))
        assert {f"image{k}" for k in batch.file.tolist()} <= set(held.names)
    assert len(chosen) == 4


def test_without_validation_the_source_is_left_alone() -> None:
    source = Painted()
    assert divided(source, settings_of(validation=0.0)) == (source, None)


def test_what_is_held_out_is_never_learned_from_and_measured_in_evaluation_mode() -> None:
    source, diary, method = Divisible(), Diary(), Judged()
    done = train(settings_of(), method, source=source, diary=diary)
    learned, held = source.parts
    assert learned.drawn <= set(learned.numbers)
    assert held.drawn <= set(held.numbers)
    assert not method.training_seen
    rows = rows_of(diary)
    assert [list(row.measured) for row in rows] == [["loss", "second"]] * 12
    assert done.measured == rows[-1].measured
    assert rows[0].validation == rows[0].measured["loss"]
    assert "held-out loss" in rows[0].sentence()
    assert diary.plan is not None
    assert "12 patients, 4 more held out" in diary.plan.sentence()


def test_the_best_round_has_the_lowest_measure(tmp_path: Path) -> None:
    diary, best = Diary(), tmp_path / "best.safetensors"
    done = train(settings_of(lr=2.0), Judged(), diary=diary, best=best)
    values = [row.measured["loss"] for row in rows_of(diary)]
    least = int(np.argmin(values))
    assert done.best_step == 2 * (least + 1)
    assert done.best_measured["loss"] == min(values)
    assert load_checkpoint(best).card["measured"]["loss"] == min(values)


class Stale(Judged):
    """Measures what never becomes better."""

    def measure(self, views: Views, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        return {"loss": super().measure(views, generator)["loss"] * 0 + 1}


def test_the_rate_falls_after_so_many_rounds_that_are_no_better() -> None:
    diary = Diary()
    train(settings_of(schedule="plateau", steps=24), Stale(), diary=diary)
    rates = [row.lr for row in rows_of(diary)]
    peak = 0.05 * 16 / 256
    falls = [max(0, k - 1) // PATIENCE for k in range(12)]
    assert rates == pytest.approx([max(peak * 0.1**n, 1e-5) for n in falls])


@pytest.mark.parametrize("stop_at", [7, 13])
def test_stopped_anywhere_a_plateau_goes_on_to_the_same_bytes(stop_at: int, tmp_path: Path) -> None:
    settings = settings_of(schedule="plateau", lr=2.0)
    straight, straight_diary = Judged(), Diary()
    train(settings, straight, diary=straight_diary)
    state = CheckpointFile(path=tmp_path / "state.safetensors", digest="d")
    stopped = Diary(stop_at=stop_at)
    with pytest.raises(RuntimeError, match="in the middle"):
        train(settings, Judged(), diary=stopped, checkpoint=state, minutes=0.0)
    again, diary = Judged(), Diary()
    train(settings, again, diary=diary, checkpoint=state, minutes=0.0)
    assert digest_of_tensors(again.state_dict()) == digest_of_tensors(straight.state_dict())
    expected = [(row.lr, row.measured) for row in rows_of(straight_diary)]
    found = [(row.lr, row.measured) for row in rows_of(diary)]
    assert found == expected[-len(found) :]
    assert len(found) < len(expected)


def test_what_cannot_be_held_out_is_refused() -> None:
    with pytest.raises(SettingsError, match="no method 'some'"):
        train(settings_of(), Judged(), source=Painted())
    with pytest.raises(SettingsError, match="all tiles are of one patient"):
        train(settings_of(), Judged(), source=Divisible(range(4)))
    with pytest.raises(SettingsError, match="method 'tell' measures nothing"):
        train(settings_of(), Tell(small_network()))


def test_images_of_a_folder_are_divided(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(8):
        pixels = np.full((20, 20, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"p{number}.png")
    whole = ImageTiles(tmp_path, tile_px=32, settings=SamplingSettings(jitter_mpp=0.0))
    assert len(caplog.messages) == 1
    learned, held = divided(whole, settings_of())
    assert len(caplog.messages) == 1  # what is enlarged is said once
    assert held is not None
    assert sorted([*learned.names, *held.names]) == list(whole.names)
    assert len({whole.digest, learned.digest, held.digest}) == 3
    for part in (learned, held):
        batch = next(part.batches(BatchPlan(last=1, size=2)))
        greys = batch.tiles[:, 0, 0, 0].tolist()
        assert greys == [10 * k for k in batch.file.tolist()]
        assert {f"p{k}.png" for k in batch.file.tolist()} <= set(part.names)


def test_pictures_are_drawn_after_each_round(tmp_path: Path) -> None:
    class Painter(Judged):
        def pictures(
            self, images: Float[Tensor, "tile 3 row col"], generator: torch.Generator
        ) -> Mapping[str, Float[Tensor, "_ tile channel _ _"]]:
            assert not self.training
            return {"copies": torch.stack([images, images * 0])}

    train(replace(settings_of(), steps=4), Painter(), pictures=tmp_path)
    with Image.open(tmp_path / "copies.png") as picture:
        pixels = np.asarray(picture)
    # two lines of a dozen tiles of 16 px, four times as large, 4 px apart; below grey
    assert pixels.shape == (2 * 68, 12 * 68, 3)
    assert (pixels[68 : 68 + 64, :64] == 128).all()
    assert pixels[:64, :64].std() > 0
