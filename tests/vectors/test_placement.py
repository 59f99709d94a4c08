"""Placement: into memory where it fits, left as it is where it does not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gigassl.vectors import placement
from gigassl.vectors.placement import fits, free_bytes, placed
from gigassl.vectors.tile_store import TileStore, store_of_bank
from gigassl.vectors.views import ViewSettings, draw_views
from tests.vectors.stores import grid_bag, small_bank, store_of

CPU = torch.device("cpu")


@pytest.fixture
def mapped(tmp_path: Path) -> TileStore:
    """A store whose features are a copy-on-write memory map of a file."""
    store = store_of(grid_bag())
    path = tmp_path / "features.bin"
    store.features.numpy().tofile(path)
    features = np.memmap(path, dtype=np.float16, mode="c", shape=store.features.shape)
    return replace(store, features=torch.from_numpy(features))


def test_a_small_store_is_copied_from_disk(mapped: TileStore) -> None:
    moved = placed(mapped, "cpu")
    assert moved.features.data_ptr() != mapped.features.data_ptr()
    assert torch.equal(moved.features, mapped.features)


def test_what_does_not_fit_stays_where_it_is(
    mapped: TileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "SHARE", {"cpu": 0.0})
    assert placed(mapped, "cpu") is mapped


def test_views_of_a_bank_are_the_same_on_disk_and_in_memory(tmp_path: Path) -> None:
    on_disk = store_of_bank(small_bank(tmp_path / "bank"))
    in_memory = placed(on_disk, "cpu")
    assert in_memory.features.data_ptr() != on_disk.features.data_ptr()
    slides = torch.tensor([0, 1, 1, 0])
    one, other = (
        draw_views(
            store, slides, settings=ViewSettings(), generator=torch.Generator().manual_seed(0)
        )
        for store in (on_disk, in_memory)
    )
    assert torch.equal(one.features, other.features)
    assert torch.equal(one.coords, other.coords)


def test_the_share_of_free_memory_decides() -> None:
    free = free_bytes(CPU)
    assert free > 1e8
    assert fits(1000, CPU)
    assert not fits(10 * free, CPU)
    assert free_bytes(torch.device("meta")) == 0


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    unlimited = free_bytes(CPU)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("2000000\n")
    assert free_bytes(CPU) == 3_000_000 < unlimited


@pytest.mark.gpu
def test_a_gpu_says_what_is_free(mapped: TileStore) -> None:
    assert free_bytes(torch.device("cuda")) > 1e8
    assert placed(mapped, "cuda").device.type == "cuda"
