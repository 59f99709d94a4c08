"""Files appear whole, or not at all; a machine's faults come as one sentence."""

import errno
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from gigassl.files import MachineError, clear_leftovers, machine_error, written_whole


def test_the_file_appears_only_when_done(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with written_whole(path) as part:
        part.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_an_error_leaves_the_earlier_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with suppress(InterruptedError), written_whole(path) as part:
        part.write_bytes(b"half")
        raise InterruptedError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_what_a_killed_process_left_is_cleared_by_name(tmp_path: Path) -> None:
    for name in (".a.bin.123.part", ".b.bin.123.part", "a.bin.part", ".a.bin.x.part", ".a.bin"):
        (tmp_path / name).write_bytes(b"x")
    clear_leftovers(tmp_path, {"a.bin"})
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".b.bin.123.part", "a.bin.part", ".a.bin.x.part", ".a.bin"}


def test_a_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    expected = pytest.raises(MachineError, match=r"cannot write .*absent/a\.bin: No such file")
    with expected, written_whole(tmp_path / "absent" / "a.bin") as part:
        part.write_bytes(b"x")


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EMFILE, "no file handles left"),
        (errno.EROFS, "read-only"),
    ],
)
def test_the_machines_faults_are_told_from_the_slides(number: int, sentence: str) -> None:
    known = machine_error(OSError(number, "x"), doing="writing")
    assert known is not None
    assert sentence in str(known)
    assert machine_error(OSError(errno.EIO, "x"), doing="reading") is None


def test_a_real_file_size_limit_is_a_sentence_and_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = (
        "import sys; from pathlib import Path\n"
        "from gigassl.files import written_whole, MachineError\n"
        "try:\n"
        "    with written_whole(Path(sys.argv[1])) as part: part.write_bytes(b'x' * 100_000)\n"
        "except MachineError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )  # fmt: skip
    assert "would exceed the allowed file size" in done.stdout
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
