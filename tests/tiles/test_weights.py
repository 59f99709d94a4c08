"""Checkpoints: found behind any prefix, and no file may run code."""

import argparse
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from gigassl.errors import SettingsError
from gigassl.tiles.weights import load_checkpoint, save_checkpoint, tensors_for

WEIGHTS = {"conv.weight": torch.arange(4.0), "conv.bias": torch.ones(2)}


def behind(prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in WEIGHTS.items()}


def test_saved_weights_and_card_come_back(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, WEIGHTS, card={"record": {"name": "µ"}})
    found = load_checkpoint(path)
    assert found.card == {"record": {"name": "µ"}}
    assert all(torch.equal(found.tensors[name], WEIGHTS[name]) for name in WEIGHTS)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("prefix", ["", "module.", "module.encoder_q."])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
def test_the_network_is_found_wherever_it_lies(
    tmp_path: Path, prefix: str, container: str | None
) -> None:
    content = {**behind(prefix), "head.weight": torch.zeros(3)}
    path = tmp_path / "checkpoint.pth"
    torch.save({container: content, "epoch": 3} if container else content, path)
    found = tensors_for(WEIGHTS, load_checkpoint(path))
    assert set(found) == set(WEIGHTS)
    assert torch.equal(found["conv.weight"], WEIGHTS["conv.weight"])


def test_two_networks_in_one_file_need_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "moco.pth"
    momentum = {name: tensor + 1 for name, tensor in behind("encoder_k.").items()}
    torch.save({"state_dict": {**behind("encoder_q."), **momentum}}, path)
    checkpoint = load_checkpoint(path)
    with pytest.raises(SettingsError, match=r"behind 'encoder_k\.', 'encoder_q\.'.*weights_prefix"):
        tensors_for(WEIGHTS, checkpoint)
    found = tensors_for(WEIGHTS, checkpoint, prefix="encoder_k.")
    assert torch.equal(found["conv.bias"], WEIGHTS["conv.bias"] + 1)


def test_another_network_is_named_by_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(4)}, path)
    with pytest.raises(SettingsError, match=r"1 of 2 tensors are missing, such as 'conv\.bias'"):
        tensors_for(WEIGHTS, load_checkpoint(path))


class Runs:
    """A pickle that would run code on opening, as a malicious checkpoint does."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def test_a_pickle_that_runs_code_is_refused_before_it_does(tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"state_dict": Runs(str(trace))}, path)
    with pytest.raises(SettingsError, match="could run code"):
        load_checkpoint(path)
    assert not trace.exists()
    # the trap itself works: an unguarded reader springs it
    pickle.loads(pickle.dumps(Runs(str(trace)))).close()
    assert trace.exists()


class Config:
    """Settings in a class of somebody's own project."""


def test_arguments_of_a_training_script_are_read_as_values(tmp_path: Path) -> None:
    path = tmp_path / "published.pth"
    config = argparse.Namespace(lr=0.03, name="µ", model_path=None, layers=[1, 2])
    content = {"epoch": 9, "config": config, "history": {"loss": 0.5}, "state_dict": WEIGHTS}
    torch.save(content, path)
    found = load_checkpoint(path)
    assert set(found.tensors) == set(WEIGHTS)
    expected = {"epoch": 9, "config": {"lr": 0.03, "name": "µ"}, "history": {"loss": 0.5}}
    assert found.values == expected


@pytest.mark.parametrize("inside", [True, False])
def test_settings_of_another_class_are_refused(tmp_path: Path, inside: bool) -> None:
    config = argparse.Namespace(model=Config()) if inside else Config()
    path = tmp_path / "published.pth"
    torch.save({"config": config, "state_dict": WEIGHTS}, path)
    with pytest.raises(SettingsError, match="could run code"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=name):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no checkpoint at .*gone\.pth"):
        load_checkpoint(tmp_path / "gone.pth")


@pytest.mark.parametrize("content", [b"slide_id,label\ns1,a\n", b"", b"s", b"\x80\x02."])
def test_a_file_of_another_kind_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(SettingsError, match=r"x\.pth"):
        load_checkpoint(tmp_path / "x.pth")
