"""A run of MIL models: resumed part by part, never from stale parts, with its progress."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gigassl.bags.bag import Bag, save_bag
from gigassl.errors import SettingsError
from gigassl.evaluate.mil.training import EpochLoss, Quiet
from gigassl.evaluate.predictions import open_predictions
from gigassl.evaluate.splits import SplitSettings
from gigassl.pipeline.evaluation import TaskOptions
from gigassl.pipeline.mil import MilOptions, mil, open_bags
from gigassl.pipeline.mil_progress import MilReporter
from gigassl.pipeline.mil_result import MilResult
from tests.vectors.stores import grid_bag

N = 24
CHANGES: Mapping[str, Any] = {
    "epochs": 2, "batch_size": 4, "options": {"embed": (8,)}, "device": "cpu"
}  # fmt: skip
MODELS = MilOptions(models=("mean", "max"), changes=CHANGES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Bags of 24 slides of 12 patients, and their labels."""
    lines = ["slide_id,patient_id,grade,age"]
    (tmp_path / "bags").mkdir()
    for number in range(N):
        bag = grid_bag(f"s{number:02}", cols=4, rows=3)
        grade = number // 2 % 2
        features = (bag.features + 2 * grade).astype(np.float16)
        save_bag(
            Bag(features=features, coords=bag.coords, info=bag.info),
            tmp_path / "bags" / f"s{number:02}.h5",
        )
        lines.append(f"s{number:02},p{number // 2:02},{'ab'[grade]},{number}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


def asked(folder: Path, **changes: Any) -> TaskOptions:
    options = TaskOptions(
        labels=folder / "labels.csv", target="grade", split=SplitSettings(folds=3)
    )
    return replace(options, **changes)


class Killed(Quiet):
    """Interrupts after so many models."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.plans: list[tuple[int, int]] = []

    def started(self, n_fits: int, *, n_done: int) -> None:
        self.plans.append((n_fits, n_done))

    def epoch_done(self, loss: EpochLoss, *, epochs: int) -> None:
        if self.left == 0:
            raise KeyboardInterrupt

    def fitted(self, title: str) -> None:
        self.left -= 1


def run(folder: Path, out: str = "p.parquet", *, after: int = -1, **changes: Any) -> MilResult:
    given = {"options": asked(folder), "models": MODELS, **changes}
    return mil(folder / "bags", folder / out, monitor=Killed(after), **given)


def test_every_model_predicts_every_slide_once_and_the_splits_lie_beside(folder: Path) -> None:
    result = run(folder)
    assert (result.n_new, result.n_reused, result.interrupted) == (6, 0, False)
    found = open_predictions(folder / "p.parquet")
    assert sorted(found.data["slide_id"].to_pylist()) == sorted(2 * [f"s{n:02}" for n in range(N)])
    assert [fit["model"] for fit in found.provenance["fits"]] == ["mean"] * 3 + ["max"] * 3
    assert not (folder / "p.parquet.parts").exists()
    again = run(folder, "q.parquet", options=asked(folder, splits=folder / "p.parquet.splits"))
    assert again.predictions is not None
    folds = [t.data.select(["slide_id", "fold"]) for t in (found, again.predictions)]
    assert folds[0].equals(folds[1])


def test_a_killed_run_goes_on_and_ends_with_the_bytes_of_an_undisturbed_one(folder: Path) -> None:
    run(folder, "whole.parquet")
    first = run(folder, after=2)
    assert first.interrupted
    assert first.n_new == 2
    assert "interrupted after 2 models" in first.sentence()
    assert not (folder / "p.parquet").exists()
    monitor = Killed(-1)
    second = mil(
        folder / "bags", folder / "p.parquet", options=asked(folder), models=MODELS,
        monitor=monitor,
    )  # fmt: skip
    assert (second.n_new, second.n_reused) == (4, 2)
    assert monitor.plans == [(6, 2)]
    assert (folder / "p.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
    third = run(folder)
    assert (third.n_new, third.n_reused) == (0, 6)


@pytest.mark.parametrize("what", ["settings", "labels", "tiles", "splits", "seed"])
def test_parts_of_anything_else_are_never_used(folder: Path, what: str) -> None:
    run(folder, after=2)
    options, models = asked(folder), MODELS
    if what == "settings":
        models = replace(MODELS, changes={**CHANGES, "lr": 0.02})
    elif what == "labels":
        text = (folder / "labels.csv").read_text()
        (folder / "labels.csv").write_text(text.replace("s00,p00,a", "s00,p00,b"))
    elif what == "tiles":
        save_bag(grid_bag("s00", cols=5, rows=3), folder / "bags" / "s00.h5")
    elif what == "splits":
        options = asked(folder, split=SplitSettings(folds=3, seed=9))
    else:
        models = replace(MODELS, changes={**CHANGES, "seed": 9})
    result = run(folder, options=options, models=models)
    assert result.n_reused == 0
    assert result.n_new == 6


def test_a_damaged_part_is_trained_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(folder, after=2)
    part = next((folder / "p.parquet.parts").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    assert run(folder).n_reused == 1
    assert "ignoring a damaged part" in caplog.text


def test_a_table_of_another_run_is_not_overwritten_unless_told_to(folder: Path) -> None:
    run(folder)
    other = replace(MODELS, models=("mean",))
    with pytest.raises(SettingsError, match="was made with other bags, labels, splits or settings"):
        run(folder, models=other)
    assert run(folder, models=replace(other, restart=True)).n_new == 3


def test_patients_get_the_mean_of_their_slides_predictions(folder: Path) -> None:
    slides = run(folder).predictions
    patients = run(folder, "q.parquet", options=asked(folder, patients="predictions")).predictions
    assert slides is not None
    assert patients is not None
    assert set(patients.data["level"].to_pylist()) == {"patient"}
    assert len(patients) == N
    mine = [p for p, s in zip(slides.data["p_a"].to_pylist(), slides.data["slide_id"].to_pylist(),
                              strict=True) if s in ("s00", "s01")][:2]  # fmt: skip
    at = patients.data["patient_id"].to_pylist().index("p00")
    assert patients.data["p_a"][at].as_py() == pytest.approx(np.mean(mine))
    with pytest.raises(SettingsError, match="bags have no mean vector"):
        run(folder, "r.parquet", options=asked(folder, patients="vectors"))


def test_bags_that_cannot_be_read_are_listed(folder: Path) -> None:
    (folder / "bags" / "s05.h5").write_bytes(b"nothing")
    result = run(folder)
    assert [failure.slide_id for failure in result.failures] == ["s05"]
    assert "s05" in (folder / "p.failures.csv").read_text()
    assert "1 bags failed" in result.sentence()
    assert result.summary()["failed"] == 1


def test_open_bags_gives_the_tiles(folder: Path) -> None:
    assert len(open_bags(folder / "bags")) == N


def test_mistakes_are_refused_before_training(folder: Path) -> None:
    for models, match in (
        (("nobody",), "unknown MIL model 'nobody'"),
        ((), "name at least one MIL model"),
        (("mean", "mean"), "each once"),
    ):
        with pytest.raises(SettingsError, match=match):
            run(folder, models=replace(MODELS, models=models), after=0)
    with pytest.raises(SettingsError, match="clusters the tiles of classes"):
        run(folder, options=asked(folder, target="age"), after=0,
            models=replace(MODELS, models=("mean", "clam-sb")))  # fmt: skip


def test_progress_in_a_log_has_rate_and_time_to_go(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with (
        log.open("w") as stream, MilReporter(stream, seconds_between_lines=0.0) as reporter
    ):  # fmt: skip
        reporter.started(3, n_done=1)
        reporter.epoch_done(EpochLoss(epoch=1, train=0.7, validation=0.6), epochs=5)
        reporter.fitted("abmil, split 0")
        reporter.fitted("abmil, split 1")
    lines = log.read_text().splitlines()
    assert lines[0] == "1 of 3 models were fitted before"
    assert "1/3 models" in lines[1]
    assert "ETA unknown, epoch 1/5, loss 0.7000, validation 0.6000" in lines[1]
    assert "2/3 models" in lines[2]
    assert "epochs/s, ETA 0:00:00, last: abmil, split 0" in lines[2]
    assert lines[3].startswith("3/3 models")
