"""Placement: a tile store goes into the memory of the device where it fits, else stays on disk."""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from gigassl.vectors.tile_store import TileStore

log = logging.getLogger("gigassl")

SHARE = {"cuda": 0.7, "cpu": 0.5}
"""What part of the free memory a store may take; the rest is for training and other programs."""

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def placed(store: TileStore, device: torch.device | str) -> TileStore:
    """The store in the memory of a device where it fits, and as it is otherwise.

    As it is: views are then drawn where the tiles lie (from a memory-mapped file, on the CPU), and
    moved to the device.
    """
    device = torch.device(device)
    if fits(store.n_bytes, device):
        # on the CPU a memory map is replaced too: read once in order, not page by page at random
        moved = store.to(device)
        return moved if device.type != "cpu" else _in_memory(moved)
    log.info(
        "the tiles (%.1f GB) do not fit the free memory of %s; they are read from disk as needed",
        store.n_bytes / 1e9, device,
    )  # fmt: skip
    return store


def fits(n_bytes: int, device: torch.device) -> bool:
    """Whether so much may be put into the memory of a device."""
    return n_bytes <= SHARE.get(device.type, 0.5) * free_bytes(device)


def free_bytes(device: torch.device) -> int:
    """Free memory of a device; of the CPU within its container's limit; 0 where not known."""
    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
        return int(free)
    if device.type != "cpu" or not _MEMINFO.is_file():
        return 0
    facts = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    available = int(facts["MemAvailable"].split()[0]) * 1024
    return min(available, _left_in_container() or available)


def _left_in_container() -> int | None:
    """What the limit of the container leaves; None where there is none."""
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if not limit.is_file() or limit.read_text().strip() == "max":
        return None
    return max(1, int(limit.read_text()) - int(used.read_text()))


def _in_memory(store: TileStore) -> TileStore:
    return replace(store, features=store.features.clone(), coords=store.coords.clone())
