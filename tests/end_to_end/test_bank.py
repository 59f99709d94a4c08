"""``gigassl encode --augmentations`` as a user runs it: resumed, in parts, merged, reduced."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gigassl.bags.bank import open_bank
from gigassl.cli.main import app
from tests.end_to_end.conftest import Run

ENCODER = "random:resnet18@layer1"
OPTIONS = (
    "--augmentations", 2, "--tiles", 3, "--tile-px", 112, "--target-mpp", 0.5, "--batch-size", 3,
    "--tile-encoder", ENCODER, "--device", "cpu",
)  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


@pytest.fixture(scope="module")
def bank(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bank of alpha, beta and gamma, made in one go."""
    from typer.testing import CliRunner

    from gigassl.cli.main import app

    out = tmp_path_factory.mktemp("banks") / "bank"
    arguments = [str(a) for a in ("encode", slides, "-o", out, *OPTIONS)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    assert "bank of 3 slides (3 new" in done.stdout
    return out


def test_a_bank_holds_augmented_tiles_of_every_slide(bank: Path, run: Run) -> None:
    found = open_bank(bank)
    assert [slide.slide_id for slide in found.slides] == ["alpha", "beta", "gamma"]
    assert found.features.shape == (3, 2, 3, 64)
    assert (found.info.encoder, found.info.dim, found.info.tile_um) == (ENCODER, 64, 56.0)
    assert found.slides[0].um_per_px_l0 == 0.5
    assert np.isfinite(found.features).all()
    assert np.ptp(found.features, axis=(1, 2)).min() > 0
    assert (found.coords % 112 == 0).all()
    described = json.loads(run("inspect", bank, "--json").out)
    assert described["kind"] == "bank of augmented bags"
    assert described["shape"] == [3, 2, 3, 64]
    assert described["info"]["augmentation"]["blur_px"] == 5


def test_a_rerun_changes_nothing_and_workers_neither(
    bank: Path, slides: Path, run: Run, tmp_path: Path
) -> None:
    before = contents(bank)
    done = run("encode", slides, "-o", bank, *OPTIONS)
    assert "bank of 3 slides (0 new" in done.out
    assert "3 of 3 slides are done already; 0 to do" in done.err
    assert contents(bank) == before
    run("encode", slides, "-o", tmp_path / "other", *OPTIONS, "--workers", 1)
    assert contents(tmp_path / "other") == before


def test_other_settings_are_refused_by_name(bank: Path, slides: Path, run: Run) -> None:
    before = contents(bank)
    other = [*OPTIONS, "--seed", 7, "--draw", "window", "--stain-jitter", 0.1, "--turn-tiles"]
    done = run("encode", slides, "-o", bank, *other)
    assert done.code == 2
    assert "bank.seed: 0 → 7" in done.err
    assert "bank.draw: scatter → window" in done.err
    assert "bank.augmentation.stain: 0.0 → 0.1" in done.err
    assert "bank.augmentation.turns: False → True" in done.err
    reduced = run("encode", slides, "-o", bank, *OPTIONS, "--reduce", "pca:4")
    assert reduced.code == 2
    assert "reduction.columns: None → 4" in reduced.err
    fewer = run("encode", slides / "alpha.svs", "-o", bank, *OPTIONS)
    assert fewer.code == 2
    assert "0 are new and 2 of its own are not in this input" in fewer.err
    assert contents(bank) == before


def test_parts_merged_are_the_same_bytes(
    bank: Path, slides: Path, run: Run, tmp_path: Path
) -> None:
    parts = [tmp_path / f"b.shard-{i}-of-2" for i in (1, 2)]
    for i in (1, 2):
        assert run("encode", slides, "-o", tmp_path / "b", *OPTIONS, "--shard", f"{i}/2").code == 0
    merged = tmp_path / "merged"
    assert run("merge", *reversed(parts), "-o", merged).code == 0
    assert contents(merged) == contents(bank)

    twice = run("merge", merged, parts[0], "-o", tmp_path / "twice")
    assert twice.code == 2
    assert "'alpha' stands in two banks" in twice.err
    onto = run("merge", *parts, "-o", merged)
    assert onto.code == 2
    assert "holds a bank already" in onto.err
    other = tmp_path / "other"
    run("encode", slides / "beta.svs", "-o", other, *OPTIONS, "--seed", 3)
    different = run("merge", parts[0], other, "-o", tmp_path / "different")
    assert different.code == 2
    assert "bank.seed (0 and 3)" in different.err
    assert not (tmp_path / "different").exists()


def test_another_encoder_is_refused(bank: Path, slides: Path, run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run(
        "encode", slides / "alpha.svs", "-o", other, *OPTIONS, "--tile-encoder", f"{ENCODER}?seed=1"
    )
    done = run("merge", bank, other, "-o", tmp_path / "merged")
    assert done.code == 2
    assert "tile_encoder.weights" in done.err


@pytest.fixture(scope="module")
def reduced(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bank of alpha, beta and gamma with five columns of a PCA."""
    out = tmp_path_factory.mktemp("banks") / "reduced"
    arguments = [str(a) for a in ("encode", slides, "-o", out, *OPTIONS, "--reduce", "pca:5")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return out


@pytest.mark.slow
def test_a_reduction_is_the_same_in_every_part(
    reduced: Path, slides: Path, run: Run, tmp_path: Path
) -> None:
    parts = [tmp_path / f"b.shard-{i}-of-2" for i in (1, 2)]
    for i in (1, 2):
        part = ("--reduce", "pca:5", "--shard", f"{i}/2")
        assert run("encode", slides, "-o", tmp_path / "b", *OPTIONS, *part).code == 0
    assert run("merge", *parts, "-o", tmp_path / "merged").code == 0
    assert contents(tmp_path / "merged") == contents(reduced)


def test_a_reduction_is_fitted_once_and_can_be_passed_on(
    reduced: Path, slides: Path, run: Run, tmp_path: Path
) -> None:
    found = open_bank(reduced)
    assert found.features.shape == (3, 2, 3, 5)
    assert (found.info.dim, found.info.encoder_dim) == (5, 64)
    assert found.reduction is not None
    components = found.reduction.components
    assert np.allclose(components @ components.T, np.eye(5), atol=1e-5)

    again = run("encode", slides, "-o", reduced, *OPTIONS, "--reduce", "pca:5")
    assert "bank of 3 slides (0 new" in again.out
    assert "fitting" not in again.err
    passed = tmp_path / "passed"
    stored = reduced / "reduction.safetensors"
    run("encode", slides, "-o", passed, *OPTIONS, "--reduce", stored)
    assert contents(passed) == contents(reduced)
    other = run("encode", slides, "-o", reduced, *OPTIONS, "--reduce", "pca:6")
    assert other.code == 2
    assert "keeps 5 columns, pca:6 was asked for" in other.err
    foreign = [*OPTIONS, "--tile-encoder", f"{ENCODER}?seed=1", "--reduce", stored]
    assert (
        "was fitted on features of the tile encoder"
        in run("encode", slides, "-o", tmp_path / "f", *foreign).err
    )


def test_failures_are_listed_and_made_good_later(slides: Path, run: Run, tmp_path: Path) -> None:
    folder, out = tmp_path / "own", tmp_path / "bank"
    shutil.copytree(slides, folder)
    (folder / "beta.svs").write_bytes(b"no slide")
    with (tmp_path / "cohort.csv").open("w") as table:
        table.write("slide_id,path,patient_id,type\nalpha,own/alpha.svs,p,LUAD\n")
        table.write("beta,own/beta.svs,q,LUSC\nmissing,own/missing.svs,q,LUSC\n")
    done = run("encode", tmp_path / "cohort.csv", "-o", out, *OPTIONS)
    assert done.code == 1
    with (out / "failures.csv").open(newline="") as listed:
        assert [row["slide_id"] for row in csv.DictReader(listed)] == ["beta", "missing"]
    found = open_bank(out)
    assert (len(found), found.failed) == (1, ("beta",))
    assert (found.slides[0].patient_id, found.slides[0].labels) == ("p", {"type": "LUAD"})

    shutil.copy(slides / "beta.svs", folder / "beta.svs")
    assert run("encode", tmp_path / "cohort.csv", "-o", out, *OPTIONS).code == 1
    assert [slide.slide_id for slide in open_bank(out).slides] == ["alpha", "beta"]
    # a slide whose file has changed is encoded anew, and may then fail
    (folder / "alpha.svs").write_bytes(b"broken")
    again = run("encode", tmp_path / "cohort.csv", "-o", out, *OPTIONS)
    assert "bank of 1 slides (0 new" in again.out
    assert open_bank(out).failed == ("alpha",)
    assert not open_bank(out).features[0].any()


def test_a_dry_run_says_what_is_needed_and_writes_nothing(
    slides: Path, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "bank"
    said = run("encode", slides, "-o", out, *OPTIONS, "--dry-run")
    assert said.code == 0
    assert "3 slides to do: 0.0 MB on disk" in said.out
    assert "time about 0:00:" in said.out
    found = json.loads(run("encode", slides, "-o", out, *OPTIONS, "--dry-run", "--json").out)
    assert (found["n_slides"], found["n_bytes"]) == (3, 3 * 2 * 3 * (2 * 64 + 8))
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tiles", 8], "--augmentations 50"),
        (["--dry-run"], "--augmentations 50"),
        (["--reduce", "pca:4"], "--augmentations 50"),
        ([*OPTIONS, "--reduce", "256"], "--reduce wants pca:N"),
        ([*OPTIONS, "--reduce", "pca:65"], "pca:65 asks for more columns than the 64"),
        ([*OPTIONS, "--stain-jitter", 2], "stain lies from 0 to 0.9; got 2"),
    ],
)
def test_options_that_cannot_be_used_get_a_sentence(
    slides: Path, run: Run, tmp_path: Path, options: list[object], sentence: str
) -> None:
    done = run("encode", slides / "alpha.svs", "-o", tmp_path / "bank", *options)
    assert done.code == 2
    assert sentence in done.err


def test_bags_cannot_be_augmented(slides: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"")
    done = run("encode", tmp_path, "-o", tmp_path / "bank", *OPTIONS)
    assert done.code == 2
    assert "bags, whose tiles cannot be augmented any more" in done.err


def test_an_interrupted_run_is_gone_on_with(bank: Path, slides: Path, tmp_path: Path) -> None:
    from gigassl.bags.bank_draws import DrawSettings
    from gigassl.bags.prepare import TileSettings
    from gigassl.errors import SettingsError
    from gigassl.pipeline.bank import BankSettings, encode_bank
    from gigassl.pipeline.progress import Silent
    from gigassl.slides.grid import GridSettings
    from gigassl.tiles.encoders import load_encoder

    class CtrlC(Silent):
        def slide_done(self, slide_id: str, *, failed: bool) -> None:
            if slide_id == "beta":
                raise KeyboardInterrupt

    out = tmp_path / "bank"
    encoder = load_encoder(ENCODER, batch_size=3, device="cpu")
    settings = BankSettings(
        tiles=TileSettings(grid=GridSettings(tile_px=112)),
        draws=DrawSettings(augmentations=2, tiles=3),
    )
    stopped = encode_bank(slides, out, encoder=encoder, settings=settings, progress=CtrlC())
    assert stopped.interrupted
    assert "bank of 1 slides (1 new, 0 from before), unfinished" in stopped.sentence()
    with pytest.raises(SettingsError, match="is unfinished: it lacks 2 of 3 slides"):
        open_bank(out)
    rest = encode_bank(slides, out, encoder=encoder, settings=settings)
    assert (rest.n_new, rest.n_reused) == (2, 1)
    assert contents(out) == contents(bank)
