"""Two processes that share a batch of slides learn what one does from the whole of it."""

from pathlib import Path

from safetensors.torch import load_file
from torch.multiprocessing.spawn import spawn

from tests.vectors.pretrain import processes

NAMES = ("simclr", "vicreg", "barlow")


def test_two_processes_are_one_with_the_doubled_batch(tmp_path: Path) -> None:
    spawn(processes.train, args=(2, NAMES, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    for name in NAMES:
        whole = processes.trained(name, rank=0, world=1)
        assert len(set(whole["losses"].tolist())) == processes.STEPS
        for rank in (0, 1):
            shared = load_file(tmp_path / f"{name}.{rank}.safetensors")
            assert shared.keys() == whole.keys()
            for part, value in whole.items():
                error = float((shared[part] - value).norm() / value.norm())
                # a bias before a norm has no gradient but rounding errors
                assert error < 1e-3 or float(value.abs().max()) < 1e-5, f"{name}: {part}"
