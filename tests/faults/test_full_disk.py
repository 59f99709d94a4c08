"""A disk that is full at any write: one sentence, nothing half written, a rerun that ends whole.

Each command writes onto a file system of its own that is a share of what its products take, so that
the room ends now at one write and now at another. Then the file system grows, and the same command
must end with the bytes of a run that met no such thing.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from gigassl.bags.bag import Bag, save_bag
from tests.end_to_end.cohorts import save_labels, save_vectors
from tests.end_to_end.test_bad_input import needs_mount
from tests.faults.cohorts import FAST, contents, save_slides
from tests.faults.launcher import Launcher
from tests.vectors.stores import grid_bag

N_BAGS, N_VECTORS = 16, 24
PAGE = 4096


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides, bags, vectors and labels."""
    folder = tmp_path_factory.mktemp("given")
    save_slides(folder / "slides", 4, n_bad=1)
    (folder / "bags").mkdir()
    rows = ["slide_id,patient_id,grade"]
    for number in range(N_BAGS):
        bag = grid_bag(f"s{number:02}", cols=4, rows=3, dim=8)
        features = bag.features.copy()
        features[:2, 0] += 8 * (number // 2 % 2)
        whole = Bag(features=features, coords=bag.coords, info=bag.info)
        save_bag(whole, folder / "bags" / f"s{number:02}.h5")
        rows.append(f"s{number:02},p{number // 2:02},{'ab'[number // 2 % 2]}")
    (folder / "grades.csv").write_text("\n".join(rows))
    save_vectors(folder / "v.parquet", N_VECTORS)
    save_vectors(folder / "w.parquet", N_VECTORS, prefix="t")
    labels = {"grade": np.where(np.arange(N_VECTORS) // 2 % 2, "a", "b").tolist()}
    save_labels(folder / "labels.csv", labels)
    return folder


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher(before=("unshare", "-rm")) as found:
        yield found


CPU = ("--device", "cpu")
Command = Callable[[Path, Path], Sequence[object]]
COMMANDS: dict[str, Command] = {
    "embed": lambda g, out: (
        "embed", g / "slides", "-o", out / "v.parquet", "--keep-bags", out / "bags", *FAST,
    ),
    "encode": lambda g, out: ("encode", g / "slides", "-o", out / "bags", *FAST),
    "bank": lambda g, out: (
        "encode", g / "slides", "-o", out / "bank", *FAST, "--augmentations", 20, "--tiles", 40,
    ),
    "merge": lambda g, out: ("merge", g / "v.parquet", g / "w.parquet", "-o", out / "m.parquet"),
    "probe": lambda g, out: (
        "probe", g / "v.parquet", "--labels", g / "labels.csv", "--target", "grade", "--folds", 3,
        "-o", out / "p.parquet",
    ),
    "fit": lambda g, out: (
        "fit", g / "v.parquet", "--labels", g / "labels.csv", "--target", "grade", "--folds", 3,
        "-o", out / "f.safetensors",
    ),
    "mil": lambda g, out: (
        "mil", g / "bags", "--labels", g / "grades.csv", "--target", "grade", "--folds", 2,
        "--epochs", 2, "--model", "mean", *CPU, "-o", out / "mil.parquet",
    ),
    "pretrain": lambda g, out: (
        "pretrain", g / "bags", "-o", out / "s.safetensors", "--slide-encoder", "mlp",
        "--epochs", 2, "--tiles", 3, "--batch-size", 8, *CPU,
    ),
}  # fmt: skip


def run(launcher: Launcher, command: Sequence[object], *, log: Path) -> int:
    log.unlink(missing_ok=True)
    return launcher.wait(launcher.start(command, log=log))


def seen(launcher: Launcher, disk: Path, copy: Path) -> Path:
    """A copy of what lies on a disk that only the launcher sees."""
    shutil.rmtree(copy, ignore_errors=True)
    assert launcher.shell("cp", "-a", disk, copy) == 0
    return copy


def products(folder: Path) -> dict[str, bytes]:
    """Every file but logs of trainings, which say how fast it went."""
    return {path: data for path, data in contents(folder).items() if ".log/" not in path}


def stopped_and_ended(
    name: str, share: float, *, launcher: Launcher, given: Path, folder: Path
) -> bool:
    """Whether the disk was full; checks what must hold before and after it grew."""
    disk, log = folder / "disk", folder / "log"
    # the same name beforehand: paths stand in what some commands say of a run
    calm = run(launcher, COMMANDS[name](given, disk), log=log)
    assert calm in {0, 1}, log.read_text()
    expected = products(disk)
    shutil.rmtree(disk)
    disk.mkdir()
    needed = sum(-(-len(data) // PAGE) * PAGE for data in expected.values())
    size = max(PAGE, int(share * needed) // PAGE * PAGE)
    assert launcher.shell("mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk) == 0
    try:
        code = run(launcher, COMMANDS[name](given, disk), log=log)
        said = log.read_text()
        assert "Traceback" not in said
        if code == 2:  # the sentence is the last line
            assert said.rstrip().splitlines()[-1].startswith("gigassl: ")
            assert any(w in said for w in ("disk is full", "free", "file size")), said
        left = seen(launcher, disk, folder / "copy")
        assert not list(left.rglob("*.part"))
        assert launcher.shell("mount", "-o", "remount,size=64m", disk) == 0
        assert run(launcher, COMMANDS[name](given, disk), log=log) == calm, log.read_text()
        assert products(seen(launcher, disk, folder / "copy")) == expected
    finally:
        launcher.shell("umount", "-l", disk)
    return code == 2


QUICK = {"embed", "probe"}
EACH = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in COMMANDS]


@needs_mount
@pytest.mark.parametrize("name", EACH)
def test_a_read_only_disk_is_told(
    name: str, launcher: Launcher, given: Path, tmp_path: Path
) -> None:
    disk, log = tmp_path / "disk", tmp_path / "log"
    disk.mkdir()
    assert launcher.shell("mount", "-t", "tmpfs", "-o", "ro", "none", disk) == 0
    try:
        assert run(launcher, COMMANDS[name](given, disk), log=log) == 2
    finally:
        launcher.shell("umount", "-l", disk)
    assert "Traceback" not in log.read_text()
    assert "read-only" in log.read_text().splitlines()[-1]


@pytest.mark.parametrize("name", EACH)
def test_of_two_runs_on_one_output_one_is_told_and_nothing_is_lost(
    name: str, launcher: Launcher, given: Path, tmp_path: Path
) -> None:
    calm = tmp_path / "calm"
    expected_code = run(launcher, COMMANDS[name](given, calm), log=tmp_path / "log")
    for attempt in range(3):
        out = tmp_path / f"both{attempt}"
        logs = [tmp_path / f"{attempt}{which}" for which in "ab"]
        both = [launcher.start(COMMANDS[name](given, out), log=log) for log in logs]
        codes = [launcher.wait(pid) for pid in both]
        for code, log in zip(codes, logs, strict=True):
            # the later one may find all done, where the first one ended before it began
            assert code in {expected_code, 2}, log.read_text()
            if code == 2:
                assert "another run is writing" in log.read_text().splitlines()[-1]
        assert expected_code in codes
        assert products(out) == products(calm)


@needs_mount
@pytest.mark.parametrize("name", ["embed", "pretrain"])
def test_a_disk_that_fills_half_way(
    name: str, launcher: Launcher, given: Path, tmp_path: Path
) -> None:
    assert stopped_and_ended(name, 0.5, launcher=launcher, given=given, folder=tmp_path)


@needs_mount
@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_full_at_every_write(
    name: str, launcher: Launcher, given: Path, tmp_path: Path
) -> None:
    full = []
    for share in (0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 0.97):
        folder = tmp_path / f"{share}"
        folder.mkdir()
        full.append(stopped_and_ended(name, share, launcher=launcher, given=given, folder=folder))
    assert sum(full) >= 3, full
