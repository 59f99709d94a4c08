"""Bad slides among good ones, and machines that fail: each has its sentence, nothing is lost."""

import csv
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.vectors.table import open_table
from tests.end_to_end.conftest import Run
from tests.shared_data import SHARED, needs_shared


def reasons(out: Path) -> dict[str, tuple[str, str]]:
    with out.with_suffix(".failures.csv").open(newline="", encoding="utf-8") as handle:
        return {row["slide_id"]: (row["stage"], row["reason"]) for row in csv.DictReader(handle)}


@needs_shared
def test_real_slides_embed_or_say_why_not(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    done = run("embed", SHARED / "data" / "wsi", "-o", out, "--slide-mpp", "0.5")
    assert done.code == 1
    assert "2 slides (2 new" in done.out
    table = open_table(out)
    assert table.slide_ids == ["CMU-1-Small-Region", "TCGA-CR-7395-01A-01-TS1"]
    cmu, tcga = table.rows()
    assert (cmu.mpp, cmu.mpp_source, cmu.effective_mpp) == (0.499, "file:mpp", 0.499)
    assert (tcga.mpp, tcga.mpp_source, tcga.patient_id) == (0.5, "option", "TCGA-CR-7395")
    found = reasons(out)
    assert {slide_id: stage for slide_id, (stage, _) in found.items()} == {
        "OS-2-ndpi": "open",
        "boxes": "resolution",
        "broken": "open",
        "test3-DAPI-2-387": "tissue",
        "unreadable": "read",
    }
    assert "352.78" in found["boxes"][1]
    assert "fluorescence" in found["test3-DAPI-2-387"][1]
    assert "--tissue none" in found["test3-DAPI-2-387"][1]
    assert len({reason for _, reason in found.values()}) == 5


@needs_shared
def test_a_fluorescence_slide_embeds_when_asked(run: Run, tmp_path: Path) -> None:
    slide = SHARED / "data" / "wsi" / "test3-DAPI-2-387.ndpi"
    out = tmp_path / "v.parquet"
    done = run("embed", slide, "-o", out, "--tissue", "none", "--target-mpp", "1.0")
    assert done.code == 0, done.err
    (row,) = open_table(out).rows()
    assert row.n_tiles == 4 * 4  # 3968 × 4864 px at 0.228 µm/px, tiles of 224 µm


def test_bad_slides_among_good_ones(run: Run, slides: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(slides, folder)
    good = (slides / "alpha.svs").read_bytes()
    (folder / "empty.svs").write_bytes(b"")
    (folder / "text.svs").write_text("not a slide")
    (folder / "truncated.svs").write_bytes(good[: len(good) // 2])
    blank = paint_slide(SyntheticSettings(width_px=1120, height_px=1120, blank=True))
    save_image(blank.image, folder / "blank.svs", mpp=0.5)
    out = tmp_path / "v.parquet"
    done = run("embed", folder, "-o", out)
    assert done.code == 1
    assert open_table(out).slide_ids == ["alpha", "beta", "gamma"]
    found = reasons(out)
    assert found.keys() == {"blank", "empty", "text", "truncated"}
    assert found["blank"][0] == "tissue"
    assert "no tissue found" in found["blank"][1]
    assert "best: 0%" in found["blank"][1]
    assert "empty" in found["empty"][1]
    assert len({reason for _, reason in found.values()}) == 4

    again = run("embed", slides, "-o", out)
    assert again.code == 0
    assert not out.with_suffix(".failures.csv").exists()


def test_unknown_resolution_names_the_way_out(run: Run, tmp_path: Path) -> None:
    from gigassl.slides.slide_files import SlideFileSettings

    painted = paint_slide(SyntheticSettings(width_px=1120, height_px=1120))
    settings = SlideFileSettings(with_mpp=False)
    save_image(painted.image, tmp_path / "s.svs", mpp=0.5, settings=settings)
    out = tmp_path / "v.parquet"
    done = run("embed", tmp_path / "s.svs", "-o", out)
    assert done.code == 1
    assert not out.exists()
    stage, reason = reasons(out)["s"]
    assert stage == "resolution"
    assert "--slide-mpp" in reason
    assert "'mpp' column" in reason
    assert run("embed", tmp_path / "s.svs", "-o", out, "--slide-mpp", "0.5").code == 0


def test_the_second_run_on_one_output_is_told(slides: Path, run: Run, tmp_path: Path) -> None:
    from gigassl.pipeline.output import claimed

    out = tmp_path / "v.parquet"
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with claimed(out):
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    try:
        done = run("embed", slides, "-o", out)
    finally:
        release.set()
        thread.join()
    assert done.code == 2
    assert "another run is writing" in done.err
    assert run("embed", slides, "-o", out).code == 0


def limited(arguments: list[object], *, shell: str) -> subprocess.CompletedProcess[str]:
    """Runs the program in a process of its own, after a shell has set its limits."""
    command = " ".join(f"'{argument}'" for argument in arguments)
    program = f"'{sys.executable}' -c 'from gigassl.cli.main import run; run()' {command}"
    return subprocess.run(
        ["bash", "-c", f"{shell}; exec {program}"], capture_output=True, text=True, check=False
    )


def test_a_full_disk_stops_with_a_sentence_and_keeps_what_is_there(
    run: Run, slides: Path, tmp_path: Path
) -> None:
    out = tmp_path / "v.parquet"
    run("embed", slides / "alpha.svs", "-o", out)
    before = out.read_bytes()
    # a limit on file sizes meets the same code as a full disk: the write fails half way
    done = limited(["embed", slides, "-o", out], shell="ulimit -f 4")
    assert done.returncode == 2, done.stderr
    assert "would exceed the allowed file size" in done.stderr
    assert "Traceback" not in done.stderr
    assert out.read_bytes() == before
    assert not list(tmp_path.rglob("*.part"))
    assert run("embed", slides, "-o", out).code == 0


def can_mount() -> bool:
    probe = "mount -t tmpfs none /mnt"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", probe], capture_output=True, check=False)
    return done.returncode == 0


needs_mount = pytest.mark.skipif(
    shutil.which("unshare") is None or not can_mount(), reason="this machine lets no test mount"
)


def embed_on_mount(slides: Path, folder: Path, *, options: str) -> subprocess.CompletedProcess[str]:
    """Embeds onto a file system of its own, mounted at ``folder`` with these mount options."""
    folder.mkdir()
    script = (
        f"mount -t tmpfs -o {options} none {folder} && "
        f"{sys.executable} -c 'from gigassl.cli.main import run; run()' "
        f"embed {slides} -o {folder}/v.parquet --keep-bags {folder}"
    )
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False
    )


@needs_mount
def test_a_really_full_disk(slides: Path, tmp_path: Path) -> None:
    done = embed_on_mount(slides, tmp_path / "disk", options="size=64k")
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr


@needs_mount
def test_a_read_only_folder_is_told_before_work_starts(slides: Path, tmp_path: Path) -> None:
    done = embed_on_mount(slides, tmp_path / "disk", options="ro")
    assert done.returncode == 2, done.stderr
    assert "read-only" in done.stderr
    assert "slides/s" not in done.stderr


def test_out_of_file_handles_is_the_machines_fault_not_the_slides(
    slides: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    shutil.copytree(slides, folder)
    out = tmp_path / "v.parquet"
    starving = (
        "import os, resource, sys\n"
        "import gigassl.pipeline.embed, gigassl.slides.synthetic\n"
        "from pathlib import Path\n"
        "from gigassl import load_encoder\n"
        "from gigassl.errors import GigasslError\n"
        "encoder = load_encoder('efficientnet-lite0')\n"
        "used = len(os.listdir('/proc/self/fd'))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, used + 3))\n"
        "try:\n"
        "    gigassl.pipeline.embed.embed(Path(sys.argv[1]), Path(sys.argv[2]), encoder=encoder)\n"
        "except GigasslError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", starving, folder, out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "no file handles left" in done.stdout
    assert not out.with_suffix(".failures.csv").exists()


def test_bags_of_another_kind_are_listed(run: Run, slides: Path, tmp_path: Path) -> None:
    bags = tmp_path / "bags"
    run("encode", slides, "-o", bags)
    run("encode", slides / "beta.svs", "-o", tmp_path / "other", "--target-mpp", "1.0")
    shutil.copy(tmp_path / "other" / "beta.h5", bags / "beta.h5")
    (bags / "gamma.h5").write_bytes((bags / "gamma.h5").read_bytes()[:5000])
    out = tmp_path / "v.parquet"
    done = run("embed", bags, "-o", out)
    assert done.code == 1
    assert open_table(out).slide_ids == ["alpha"]
    found = reasons(out)
    assert "target_mpp 1.0 instead of 0.5" in found["beta"][1]
    assert "truncated" in found["gamma"][1]


def test_a_bag_with_nan_is_refused(run: Run, slides: Path, tmp_path: Path) -> None:
    import h5py

    bags = tmp_path / "bags"
    run("encode", slides, "-o", bags)
    with h5py.File(bags / "beta.h5", "r+") as file:
        file["features"][0, 0] = np.nan
    out = tmp_path / "v.parquet"
    assert run("embed", bags, "-o", out).code == 1
    assert "NaN" in reasons(out)["beta"][1]


def test_an_interrupted_run_leaves_a_valid_table(slides: Path, tmp_path: Path) -> None:
    from gigassl.pipeline.embed import embed
    from gigassl.pipeline.progress import Silent

    class CtrlC(Silent):
        def slide_done(self, slide_id: str, *, failed: bool) -> None:
            if slide_id == "beta":
                raise KeyboardInterrupt

    out = tmp_path / "v.parquet"
    result = embed(slides, out, progress=CtrlC())
    assert result.interrupted
    assert open_table(out).slide_ids == ["alpha"]
    whole = embed(slides, out)
    assert (whole.n_new, whole.n_reused) == (2, 1)
    fresh = tmp_path / "fresh.parquet"
    embed(slides, fresh)
    assert out.read_bytes() == fresh.read_bytes()
