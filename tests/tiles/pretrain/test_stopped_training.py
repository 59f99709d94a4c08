"""Trainings that are asked to stop, killed, or shared by two processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from gigassl.digests import digest_of_tensors
from gigassl.tiles.pretrain.checkpoints import CheckpointFile
from tests.tiles.pretrain.training_case import (
    Diary,
    small_network,
    small_settings,
    train_small,
)

STEPS = 30


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the program of ``training_case`` has it: others round apart."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def digest(network: nn.Module) -> str:
    return digest_of_tensors(network.state_dict())


def state_in(folder: Path) -> CheckpointFile:
    return CheckpointFile(path=folder / "state.safetensors", digest="d")


def straight(method: str = "simclr") -> str:
    """What an undisturbed training ends with."""
    network = small_network(norm=False)
    train_small(small_settings(method, steps=STEPS, lr=0.05), network)
    return digest(network)


def gone_on_with(folder: Path, method: str = "simclr") -> tuple[str, Diary]:
    network, diary = small_network(norm=False), Diary()
    settings = small_settings(method, steps=STEPS, lr=0.05)
    train_small(settings, network, monitor=diary, checkpoint=state_in(folder), round_steps=5)
    return digest(network), diary


def begun(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tiles.pretrain.training_case", str(folder), *options],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip


def wait_for_steps(program: subprocess.Popen[str], n: int) -> None:
    assert program.stdout is not None
    for line in program.stdout:
        n -= line == "step\n"
        if n == 0:
            return
    raise AssertionError(f"the program ended early with {program.wait()}")


class Signals(Diary):
    """Sends a signal to this program after a step."""

    def __init__(self, number: signal.Signals, *, at: int) -> None:
        super().__init__()
        self.number, self.at = number, at

    def step_done(self) -> None:
        super().step_done()
        if self.steps == self.at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_step_end_and_keeps_the_state(
    number: signal.Signals, tmp_path: Path
) -> None:
    before = signal.getsignal(number)
    settings = small_settings(steps=STEPS, lr=0.05)
    diary = Signals(number, at=7)
    done = train_small(
        settings, small_network(norm=False), monitor=diary, checkpoint=state_in(tmp_path),
        round_steps=5,
    )  # fmt: skip
    assert signal.getsignal(number) is before
    assert (done.steps, done.stopped_by, diary.steps) == (7, number.name, 7)
    assert done.state == f"the state of step 7 is kept in {tmp_path / 'state.safetensors'}"
    found, rest = gone_on_with(tmp_path)
    assert found == straight()
    assert rest.steps == STEPS - 7


def test_a_training_killed_dead_ends_with_the_same_bytes(tmp_path: Path) -> None:
    program = begun(tmp_path, "--steps", str(STEPS))
    wait_for_steps(program, 8)
    program.kill()
    program.communicate()
    assert program.returncode == -signal.SIGKILL
    found, rest = gone_on_with(tmp_path)
    assert found == straight()
    assert 0 < rest.steps < STEPS


def ended(program: subprocess.Popen[str]) -> tuple[list[float], list[str]]:
    """Losses of the rounds, and the words at the end."""
    said, _ = program.communicate(timeout=240)
    assert program.returncode == 0
    lines = [line.split() for line in said.splitlines()]
    losses = [float(line[2]) for line in lines if line[0] == "row"]
    return losses, [word for line in lines if line[0] in ("ended", "digest") for word in line]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tell", "moco", "dino"])
def test_two_processes_are_one_with_the_doubled_batch(method: str, tmp_path: Path) -> None:
    losses = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        program = begun(
            folder, "--method", method, "--steps", "15", "--devices", str(devices), "--still-nets",
        )  # fmt: skip
        found, words = ended(program)
        assert words[:3] == ["ended", "15", "None"]
        losses.append(found)
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][0] != losses[0][-1]


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both_and_they_go_on(tmp_path: Path) -> None:
    options = ("--method", "tell", "--steps", "40", "--devices", "2", "--minutes", "10")
    program = begun(tmp_path, *options)
    wait_for_steps(program, 5)
    program.send_signal(signal.SIGTERM)
    _, words = ended(program)
    assert words[0] == "ended"
    assert words[2] == "SIGTERM"
    assert 5 <= int(words[1]) < 40
    again = begun(tmp_path, *options)
    _, words = ended(again)
    (tmp_path / "whole").mkdir()
    whole = begun(tmp_path / "whole", *options)
    assert ended(whole)[1] == words
