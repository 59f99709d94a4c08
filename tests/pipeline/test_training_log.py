"""The log of a training: rows, TensorBoard's file, the picture, and going on after a kill."""

import struct
from pathlib import Path

import cv2
import pytest

from gigassl.pipeline.training_log import (
    EPOCHS,
    ROUNDS,
    TrainingLog,
    read_rows,
    save_curves,
    values_of,
)
from gigassl.tiles.pretrain.monitors import RoundRow, TilePlan
from gigassl.training.geometry import Geometry
from gigassl.vectors.pretrain.monitors import EpochRow, Plan


def plan(*, done: int = 0) -> Plan:
    return Plan(
        n_slides=8, n_patients=8, n_batches=2, batch_size=4, epochs=9, epochs_done=done, lr=0.1,
        n_parameters=7, device="cpu", n_devices=1,
    )  # fmt: skip


def row(epoch: int, *, knn: float | None = 0.5, loss: float = 1.25) -> EpochRow:
    shape = Geometry(
        n_rows=8, collapse=0.25, effective_rank=3.5, mean_cosine=0.125, alignment=0.5,
        uniformity=-1.5,
    )  # fmt: skip
    return EpochRow(
        epoch=epoch, loss=loss / epoch, lr=0.1, slides_per_s=80.0, geometry=shape, knn_accuracy=knn
    )


def log_of(folder: Path, *rows: EpochRow, done: int = 0) -> TrainingLog:
    log = TrainingLog(folder)
    log.started(plan(done=done))
    for each in rows:
        log.row_done(each)
    return log


def board_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    tags = board.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in tags}


def test_every_number_of_an_epoch_is_in_the_table_and_on_the_board(tmp_path: Path) -> None:
    log_of(tmp_path, row(1), row(2))
    first, second = read_rows(tmp_path / "epochs.csv")
    assert tuple(first) == EPOCHS.columns
    assert first == pytest.approx(values_of(row(1)))
    assert second["loss"] == 0.625
    board = board_of(tmp_path)
    assert set(board) == set(EPOCHS.columns) - {"epoch"}
    assert board["loss"] == [(1, 1.25), (2, 0.625)]
    assert board["effective_rank"] == [(1, 3.5), (2, 3.5)]


def test_epochs_that_are_done_again_are_dropped(tmp_path: Path) -> None:
    log_of(tmp_path, row(1), row(2), row(3))
    log_of(tmp_path, row(3, loss=30.0), done=2)
    assert [(r["epoch"], r["loss"]) for r in read_rows(tmp_path / "epochs.csv")] == [
        (1, 1.25), (2, 0.625), (3, 10.0)
    ]  # fmt: skip
    assert board_of(tmp_path)["loss"] == [(1, 1.25), (2, 0.625), (3, 10.0)]
    log_of(tmp_path)  # a new training begins an empty log
    assert read_rows(tmp_path / "epochs.csv") == []


def test_half_a_line_left_by_a_kill_is_no_epoch(tmp_path: Path) -> None:
    log_of(tmp_path, row(1), row(2))
    table = tmp_path / "epochs.csv"
    table.write_text(table.read_text()[:-5])
    assert [r["epoch"] for r in read_rows(table)] == [1]


def test_without_labels_there_is_no_accuracy(tmp_path: Path) -> None:
    log = log_of(tmp_path, row(1, knn=None))
    (only,) = read_rows(tmp_path / "epochs.csv")
    assert "knn_accuracy" not in only
    assert "knn_accuracy" not in board_of(tmp_path)
    log.draw()
    assert log.picture.exists()


def test_a_loss_that_is_no_number_is_logged_and_drawn(tmp_path: Path) -> None:
    log = log_of(tmp_path, row(1), row(2, loss=float("nan")))
    assert read_rows(tmp_path / "epochs.csv")[1]["loss"] != 0.625
    log.draw()
    assert log.picture.exists()


def test_the_picture_has_a_panel_a_column(tmp_path: Path) -> None:
    log = log_of(tmp_path, *[row(n) for n in range(1, 8)])
    log.draw()
    image = cv2.imread(str(log.picture))
    assert image is not None
    height, width, _ = image.shape
    assert width > 1000
    assert height == pytest.approx(width * 7.8 / 10.5, abs=3)  # three rows of panels
    # a line is drawn in each of the nine panels
    blue = (image[..., 0].astype(int) - image[..., 2]) > 40
    panels = blue.reshape(3, height // 3, -1)[:, :, : width // 3 * 3]
    counts = panels.reshape(3, height // 3, 3, -1).sum(axis=(1, 3))
    assert (counts > 20).all()


def test_no_epochs_no_picture(tmp_path: Path) -> None:
    save_curves([], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_the_board_is_a_file_of_records(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    (length,) = struct.unpack("<Q", log.board.read_bytes()[:8])
    assert log.board.stat().st_size == length + 16  # its version, and nothing else


def tile_plan(*, done: int = 0) -> TilePlan:
    return TilePlan(
        method="moco", n_tiles=12_000, n_files=30, n_patients=20, batch_size=256, accumulate=2,
        steps=1_250_000, round_steps=500_000, steps_done=done, lr=0.06, n_parameters=7,
        device="cuda", n_devices=2,
    )  # fmt: skip


def tile_row(number: int, *, knn: float | None = None) -> RoundRow:
    return RoundRow(
        round=number, step=min(500_000 * number, 1_250_000), epoch=1.5 * number, loss=0.5, lr=0.25,
        tiles_per_s=512.0, waiting=0.125, geometry=row(1).geometry, knn_accuracy=knn,
        n_unreadable=3,
    )  # fmt: skip


def test_rounds_of_a_tile_encoder_have_a_table_of_their_own(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, ROUNDS)
    log.started(tile_plan())
    for number in (1, 2):
        log.row_done(tile_row(number, knn=0.75))
    header, first, _ = (tmp_path / "rounds.csv").read_text().splitlines()
    assert header == (
        "round,step,epoch,loss,lr,tiles_per_s,waiting,collapse,effective_rank,mean_cosine,"
        "alignment,uniformity,knn_accuracy,validation,n_unreadable"
    )
    assert first == "1,500000,1.5,0.5,0.25,512,0.125,0.25,3.5,0.125,0.5,-1.5,0.75,,3"
    board = board_of(tmp_path)
    assert set(board) == set(ROUNDS.columns) - {"round", "step", "validation"}
    assert board["epoch"] == [(500_000, 1.5), (1_000_000, 3.0)]
    log.draw()
    assert log.picture.exists()


def test_rounds_go_on_below_those_that_are_whole(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, ROUNDS)
    log.started(tile_plan())
    for number in (1, 2, 3):
        log.row_done(tile_row(number))
    log.started(tile_plan(done=1_100_000))  # in the middle of the third
    rows = read_rows(log.table, ROUNDS)
    assert [row["step"] for row in rows] == [500_000, 1_000_000]
    assert rows[0] == values_of(tile_row(1), ROUNDS)
    log.row_done(tile_row(3))
    log.started(tile_plan(done=1_250_000))  # the end, before the third is half as long
    assert [row["step"] for row in read_rows(log.table, ROUNDS)] == [500_000, 1_000_000, 1_250_000]
