"""Two processes that share a batch compute what one does with the whole of it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.multiprocessing.spawn import spawn

from tests.tiles.pretrain.methods import processes

# heads without batch norm are equal as they are; those with it where norms are synchronised,
# as PyTorch does on CUDA only
NAMES = ("moco", "dino", "dinov2", "simclr+norm", "byol+norm", "vicreg+norm", "barlow+norm")


def test_two_processes_are_one_with_the_doubled_batch(tmp_path: Path) -> None:
    arguments = (2, NAMES, str(tmp_path))
    spawn(processes.train, args=arguments, nprocs=2)  # type: ignore[no-untyped-call]
    for name in NAMES:
        whole = processes.trained(name, rank=0, world=1)
        for rank in (0, 1):
            shared = load_file(tmp_path / f"{name}.{rank}.safetensors")
            assert shared.keys() == whole.keys()
            longest = max(float(g.norm()) for n, g in whole.items() if n != "losses")
            for part, value in whole.items():
                # a bias before a norm has no gradient but rounding errors
                atol = 0.0 if part == "losses" else 1e-5 * longest
                torch.testing.assert_close(
                    shared[part], value, rtol=1e-4, atol=atol, msg=f"{name}: {part}"
                )
        assert len(set(whole["losses"].tolist())) == processes.STEPS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simclr", "barlow"])
def test_norms_of_each_process_alone_are_not_the_whole_batch(name: str, tmp_path: Path) -> None:
    arguments = (2, (name,), str(tmp_path))
    spawn(processes.train, args=arguments, nprocs=2)  # type: ignore[no-untyped-call]
    whole = processes.trained(name, rank=0, world=1)["losses"]
    shared = load_file(tmp_path / f"{name}.0.safetensors")["losses"]
    assert shared.isfinite().all()
    assert not torch.allclose(shared, whole, rtol=1e-3)
