"""The spool: the same store, its features on disk."""

import os
import resource
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from hypothesis import given

from gigassl.bags.bag import Bag
from gigassl.vectors.spool import FeatureSpool
from gigassl.vectors.tile_store import store_of_bags
from tests.bags.test_grid import with_variants
from tests.vectors.stores import bags_of


@given(bags=bags_of())
def test_a_store_on_disk_is_the_store_in_memory(bags: list[Bag]) -> None:
    for on_grid, some in ((False, bags), (True, [with_variants(bag) for bag in bags])):
        names = [bag.info.slide_id for bag in some]
        with closing(FeatureSpool()) as spool:
            kept = [spool.put(bag) for bag in some]
            features = spool.features(some[0].features.shape[1])
        ours = store_of_bags(kept, patient_ids=names, on_grid=on_grid, features=features)
        theirs = store_of_bags(some, patient_ids=names, on_grid=on_grid)
        assert torch.equal(ours.features, theirs.features)
        assert torch.equal(ours.coords, theirs.coords)
        assert torch.equal(ours.first, theirs.first)
        assert isinstance(kept[0].features, np.memmap)


def test_it_leaves_no_file_and_says_when_the_disk_is_full(tmp_path: Path) -> None:
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from gigassl.vectors.spool import FeatureSpool\n"
        "from tests.vectors.stores import grid_bag\n"
        "spool = FeatureSpool(); spool.put(grid_bag())\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.RLIM_INFINITY}))\n"
        "spool.put(grid_bag(cols=100))\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": root},
    )  # fmt: skip
    assert "choose another folder with TMPDIR" in done.stderr
    assert "MachineError" in done.stderr
    assert not list(tmp_path.iterdir())
