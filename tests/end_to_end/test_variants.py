"""``gigassl encode --variants``: compressed slides as a user makes them; acceptance N1, N2."""

import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import openslide
import pytest
import tifffile
import torch

from gigassl.bags.bag import open_bag
from gigassl.bags.prepare import TileSettings
from gigassl.pipeline.encode import encode
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.pretrain_data import training_data
from gigassl.slides.cohort import Cohort, read_cohort
from gigassl.slides.grid import GridSettings
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.engine import EngineSettings, TileEncoder
from gigassl.tiles.records import HALF, EncoderRecord
from gigassl.tiles.turns import N_VARIANTS, inverse, turned
from tests.end_to_end.conftest import Run
from tests.shared_data import SHARED, needs_shared

TILE_PX = 128
TILES = TileSettings(grid=GridSettings(tile_px=TILE_PX))
OPTIONS = (
    "--tile-px", 224, "--tile-encoder", "random:resnet18@layer1", "--device", "cpu",
    "--batch-size", 4,
)  # fmt: skip
EVERY_TILE = TileSettings(grid=GridSettings(tile_px=TILE_PX), tissue=None, default_mpp=0.5)


@pytest.fixture(scope="module")
def encoder() -> TileEncoder:
    """A small network that sees how a tile is turned."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.LeakyReLU(0.2),
        torch.nn.Conv2d(8, 16, 3, stride=2), torch.nn.LeakyReLU(0.2),
        torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
    )  # fmt: skip
    record = EncoderRecord(
        name="small", source="random", architecture="none", dim=64, input_px=TILE_PX,
        mean=HALF[0], std=HALF[1],
    )  # fmt: skip
    return TileEncoder(network, record=record, settings=EngineSettings(device="cpu", batch_size=4))


@pytest.fixture(scope="module")
def bags(slides: Path, encoder: TileEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bags with variants of alpha and beta."""
    folder = tmp_path_factory.mktemp("bags")
    options = RunOptions(variants=True)
    encode(two_of(slides), folder, encoder=encoder, tiles=TILES, options=options)
    return folder


def two_of(slides: Path) -> Cohort:
    cohort = read_cohort(slides)
    return replace(cohort, slides=cohort.slides[:2])


def save_lossless(image: np.ndarray, path: Path) -> None:
    tifffile.imwrite(path, image, photometric="rgb", tile=(256, 256), compression="deflate")


def image_of(name: str) -> np.ndarray:
    """5 × 7 tiles of a painted slide, or of the middle of a real one."""
    rows, cols = 5 * TILE_PX, 7 * TILE_PX
    if name == "painted":
        image = paint_slide(SyntheticSettings(width_px=1024, height_px=1024, seed=4)).image
        return image[200 : 200 + rows, 60 : 60 + cols]
    with openslide.OpenSlide(SHARED / "data" / "wsi" / "CMU-1-Small-Region.svs") as slide:
        return np.asarray(slide.read_region((700, 900), 0, (cols, rows)).convert("RGB"))


@pytest.mark.parametrize("name", ["painted", pytest.param("real", marks=needs_shared)])
def test_n1_the_grid_holds_what_encoding_each_cell_gives(
    name: str, encoder: TileEncoder, tmp_path: Path
) -> None:
    image = np.ascontiguousarray(np.pad(image_of(name), ((0, 50), (0, 90), (0, 0))))
    save_lossless(image, tmp_path / "s.tiff")
    encode(tmp_path / "s.tiff", tmp_path / "bags", encoder=encoder, tiles=EVERY_TILE)
    slide = open_bag(tmp_path / "bags" / "s.h5").to_grid()
    assert slide.kept.shape == (image.shape[0] // TILE_PX, image.shape[1] // TILE_PX) == (5, 7)
    assert slide.kept.all()
    assert slide.value_ratio == 3 * TILE_PX**2 / encoder.dim
    assert slide.byte_ratio == slide.value_ratio / 2
    for row, col in np.argwhere(slide.kept):
        top, left = row * TILE_PX, col * TILE_PX
        tile = image[None, top : top + TILE_PX, left : left + TILE_PX]
        expected = encoder.encode(np.ascontiguousarray(tile))[0].astype(np.float16)
        np.testing.assert_allclose(slide.features[row, col], expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["painted", pytest.param("real", marks=needs_shared)])
def test_n2_a_turned_slide_is_the_variant_of_the_slide(
    name: str, encoder: TileEncoder, tmp_path: Path
) -> None:
    image = image_of(name)
    save_lossless(image, tmp_path / "s.tiff")
    options = RunOptions(variants=True)
    encode(tmp_path / "s.tiff", tmp_path / "v", encoder=encoder, tiles=EVERY_TILE, options=options)
    bag = open_bag(tmp_path / "v" / "s.h5", variants=True)
    for variant in range(N_VARIANTS):
        content = turned(torch.from_numpy(image.copy()), variant, dims=(0, 1)).contiguous().numpy()
        save_lossless(content, tmp_path / "turned.tiff")
        encode(tmp_path / "turned.tiff", tmp_path / "t", encoder=encoder, tiles=EVERY_TILE)
        other = open_bag(tmp_path / "t" / "turned.h5").to_grid()
        ours = bag.to_grid(variant=variant)
        assert np.array_equal(other.kept, ours.kept)
        back, expected = (
            turned(torch.from_numpy(each.features), inverse(variant), dims=(0, 1)).float()
            for each in (other, ours)
        )
        assert float((back - expected).abs().max()) < 1e-3
        if variant:
            upright = torch.from_numpy(bag.to_grid().features).float()
            assert float((expected - upright).abs().max()) > 1e-2, "an encoder sees the difference"


def test_variant_zero_is_the_bag_without_variants(
    bags: Path, slides: Path, encoder: TileEncoder, tmp_path: Path
) -> None:
    encode(two_of(slides), tmp_path, encoder=encoder, tiles=TILES)
    for name in ("alpha", "beta"):
        plain, full = (open_bag(folder / f"{name}.h5") for folder in (tmp_path, bags))
        assert plain.info == full.info
        assert plain.features.tobytes() == full.features.tobytes()
        assert full.variants is None, "nobody reads them who does not ask"
        asked = open_bag(bags / f"{name}.h5", variants=True)
        assert asked.variants is not None
        assert asked.variants.shape == (7, *plain.features.shape)
        assert open_bag(tmp_path / f"{name}.h5", variants=True).variants is None


def test_the_command_encodes_resumes_and_completes(slides: Path, run: Run, tmp_path: Path) -> None:
    source, out = slides / "alpha.svs", tmp_path / "bags"
    plain = run("encode", source, "-o", out, *OPTIONS)
    assert plain.code == 0, plain.err
    done = run("encode", source, "-o", out, *OPTIONS, "--variants")
    assert "(1 new, 0 from before)" in done.out, "a bag without variants is encoded again"
    assert "8 variants of 1 slides will take about" in done.err
    variants = open_bag(out / "alpha.h5", variants=True).variants
    assert variants is not None
    for again in (("--variants",), ()):
        kept = run("encode", source, "-o", out, *OPTIONS, *again)
        assert "(0 new, 1 from before)" in kept.out, "one with variants serves both"
    refused = run("encode", source, "-o", out, *OPTIONS, "--variants", "--augmentations", 2)
    assert refused.code == 2
    assert "--variants is for bags" in refused.err


def test_other_workers_give_equal_bytes(
    bags: Path, slides: Path, encoder: TileEncoder, tmp_path: Path
) -> None:
    options = RunOptions(variants=True, workers=4)
    encode(two_of(slides), tmp_path, encoder=encoder, tiles=TILES, options=options)
    for name in ("alpha.h5", "beta.h5"):
        assert (bags / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_truncated_bag_is_encoded_again(
    bags: Path, slides: Path, encoder: TileEncoder, tmp_path: Path
) -> None:
    out = tmp_path / "bags"
    shutil.copytree(bags, out, ignore=shutil.ignore_patterns("*.lock"))
    whole = (out / "beta.h5").read_bytes()
    (out / "beta.h5").write_bytes(whole[: len(whole) // 2])
    options = RunOptions(variants=True)
    done = encode(two_of(slides), out, encoder=encoder, tiles=TILES, options=options)
    assert (done.n_new, done.n_reused) == (1, 1)
    assert (out / "beta.h5").read_bytes() == whole


def test_a_full_disk_ends_the_run_and_leaves_no_half_bag(slides: Path, tmp_path: Path) -> None:
    limit = 20_000
    arguments = ["encode", str(slides / "alpha.svs"), "-o", str(tmp_path), *map(str, OPTIONS)]
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {resource.RLIM_INFINITY})); "
        "from gigassl.cli.main import run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--variants"], capture_output=True, check=False,
        text=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.h5")), "no half a bag"
    assert not list(tmp_path.glob(".*.part"))


def test_every_other_command_sees_the_slide_as_it_lies(
    bags: Path, slides: Path, encoder: TileEncoder, run: Run, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    encode(two_of(slides), plain, encoder=encoder, tiles=TILES)
    for folder, name in ((bags, "a"), (plain, "b")):
        assert run("embed", folder, "-o", tmp_path / f"{name}.parquet").code == 0
    embedded = [json.loads(run("inspect", tmp_path / f"{n}.parquet", "--json").out) for n in "ab"]
    assert embedded[0] == embedded[1]
    ours, theirs = training_data(bags).store, training_data(plain).store
    assert torch.equal(ours.features, theirs.features)
    assert ours.first.shape == (2, 1)


def test_inspect_draws_the_channels(bags: Path, run: Run, slides: Path, tmp_path: Path) -> None:
    pictures = ("--mosaic", tmp_path / "m.png", "--colours", tmp_path / "c.png")
    done = run("inspect", bags / "alpha.h5", *pictures, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["variants"], found["grid"]["rows"], found["grid"]["columns"]) == (8, 8, 10)
    assert found["grid"]["values of the pixels a value of the features"] == 3 * 128**2 / 64
    assert found["grid"]["bytes of the pixels a byte of the features"] == 3 * 128**2 / 64 / 2
    for name in ("m.png", "c.png"):
        assert (tmp_path / name).stat().st_size > 1000
    refused = run("inspect", slides / "alpha.svs", *pictures)
    assert refused.code == 2
    assert "is no bag" in refused.err


def test_bags_on_no_grid_are_no_image(bags: Path, run: Run, tmp_path: Path) -> None:
    shutil.copy(bags / "alpha.h5", tmp_path / "off.h5")
    with h5py.File(tmp_path / "off.h5", "r+") as file:
        file["coords"][0] += 40
    found = json.loads(run("inspect", tmp_path / "off.h5", "--json").out)
    assert found["grid"].startswith("none: its tiles lie on no common grid")
    refused = run("inspect", tmp_path / "off.h5", "--mosaic", tmp_path / "m.png")
    assert refused.code == 2
    assert "lie on no common grid" in refused.err
