"""Banks on full disks, and ``kill -9`` at random moments: said in a sentence, nothing is lost."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from tests.end_to_end.test_bad_input import limited, needs_mount
from tests.end_to_end.test_bank import ENCODER, OPTIONS, contents


def program(*arguments: object) -> list[str]:
    code = "from gigassl.cli.main import run; run()"
    return [sys.executable, "-c", code, *(str(argument) for argument in arguments)]


def test_a_disk_that_fills_up_stops_with_a_sentence(slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "bank"
    # a limit on file sizes meets the same code as a full disk
    done = limited(
        ["encode", slides, "-o", out, *OPTIONS, "--augmentations", 60], shell="ulimit -f 8"
    )
    assert done.returncode == 2, done.stderr
    assert "would exceed the allowed file size" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.part"))


@needs_mount
def test_a_bank_too_large_for_the_disk_is_refused_before_work_starts(
    slides: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    large = program("encode", slides, "-o", disk / "bank", *OPTIONS, "--augmentations", 900)
    script = f'mount -t tmpfs -o size=1m none {disk} && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", *large]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "the bank needs 1.1 MB more" in done.stderr
    assert "has 1.0 MB free" in done.stderr


@needs_mount
def test_a_disk_that_others_fill_meanwhile_keeps_what_was_done(
    slides: Path, tmp_path: Path
) -> None:
    """Rows go to disk as they come; at the second slide there is no room left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gigassl.errors import GigasslError\n"
        "from gigassl.pipeline.bank import BankSettings, encode_bank\n"
        "from gigassl.bags.bank_draws import DrawSettings\n"
        "from gigassl.bags.bank_journal import read_journal\n"
        "from gigassl.pipeline.progress import Silent\n"
        "from gigassl.tiles.encoders import load_encoder\n"
        "slides, disk = map(Path, sys.argv[1:])\n"
        f"encoder = load_encoder('{ENCODER}', batch_size=3)\n"
        "class Filling(Silent):\n"
        "    def slide_done(self, slide_id, *, failed):\n"
        "        if slide_id == 'beta':\n"
        "            try:\n"
        "                with (disk / 'other').open('wb') as other:\n"
        "                    while True:\n"
        "                        other.write(bytes(4096)), other.flush()\n"
        "            except OSError:\n"
        "                pass\n"
        "settings = BankSettings(draws=DrawSettings(augmentations=40, tiles=3))\n"
        "try:\n"
        "    encode_bank(slides, disk / 'bank', encoder=encoder, settings=settings,\n"
        "                progress=Filling())\n"
        "except GigasslError as error:\n"
        "    print(error)\n"
        "print('noted:', *read_journal(disk / 'bank').slides)\n"
        "(disk / 'other').unlink()\n"
        "done = encode_bank(slides, disk / 'bank', encoder=encoder, settings=settings)\n"
        "print(done.n_reused, 'kept', done.n_new, 'new')\n"
    )
    script = f'mount -t tmpfs -o size=400k none {disk} && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-c", code, slides, disk]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cannot write the bank" in done.stdout
    assert "the disk is full" in done.stdout
    assert "noted: alpha\n" in done.stdout
    assert "1 kept 2 new" in done.stdout


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    folder, out, undisturbed = tmp_path / "many", tmp_path / "bank", tmp_path / "undisturbed"
    folder.mkdir()
    n_slides, kills = 24, 8
    for seed in range(n_slides):
        painted = paint_slide(SyntheticSettings(width_px=1120, height_px=1120, seed=seed))
        save_image(painted.image, folder / f"s{seed:02d}.svs", mpp=0.5)
    command = program("encode", folder, "-o", out, *OPTIONS, "--augmentations", 12)
    moment, done = random.Random(5), 0
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while noted(out) <= done:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.005)
        time.sleep(moment.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert done < noted(out) < n_slides, "what was noted stays, and slides are left to do"
        done = noted(out)
        assert not (out / "bank.json").exists()
    last = subprocess.run(command, capture_output=True, check=False)
    assert last.returncode == 0, last.stderr
    assert f"{done} of {n_slides} slides are done already".encode() in last.stderr
    whole = [str(undisturbed) if word == str(out) else word for word in command]
    assert subprocess.run(whole, capture_output=True, check=False).returncode == 0
    assert contents(out) == contents(undisturbed)


def noted(out: Path) -> int:
    journal = out / "journal.jsonl"
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0
