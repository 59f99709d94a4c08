"""Bad slides leave no file open behind, without waiting for Python's search for circles."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gigassl.bags.prepare import TileSettings
from gigassl.pipeline.bank import BankSettings, encode_bank
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.pipeline.encode import encode
from gigassl.slides.grid import GridSettings
from gigassl.slides.slide_files import SlideFileSettings, save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.encoders import load_encoder

TILES = TileSettings(grid=GridSettings(tile_px=112, target_mpp=0.5))


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Slides that fail at different stages: opening, resolution, reading."""
    folder = tmp_path / "bad"
    folder.mkdir()
    painted = paint_slide(SyntheticSettings(width_px=672, height_px=672, seed=1)).image
    save_image(painted, folder / "damaged.svs", mpp=0.5)
    whole = (folder / "damaged.svs").read_bytes()
    # the file is whole, but the streams of some of its tiles are overwritten
    (folder / "damaged.svs").write_bytes(whole[:1000] + bytes(30_000) + whole[31_000:])
    (folder / "truncated.svs").write_bytes(whole[: len(whole) // 2])
    (folder / "header.svs").write_bytes(whole[:1000])
    save_image(painted, folder / "a.svs", mpp=0.5, settings=SlideFileSettings(with_mpp=False))
    return folder


@pytest.fixture
def without_sweep() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def opened(folder: Path) -> list[str]:
    """Files of a folder that this process holds open."""
    handles = Path("/proc/self/fd").iterdir()
    # the handle that lists them is gone already
    links = [str(handle.readlink()) for handle in handles if handle.is_symlink()]
    return [link for link in links if link.startswith(str(folder))]


def embedded(slides: Path, out: Path) -> int:
    settings = EmbedSettings(tiles=TILES)
    encoder = load_encoder("nic:mean-rgb", device="cpu")
    return len(embed(slides, out / "v.parquet", encoder=encoder, settings=settings).failures)


def bagged(slides: Path, out: Path) -> int:
    encoder = load_encoder("nic:mean-rgb", device="cpu")
    return len(encode(slides, out, encoder=encoder, tiles=TILES).failures)


def banked(slides: Path, out: Path) -> int:
    encoder = load_encoder("nic:mean-rgb", device="cpu")
    return len(
        encode_bank(slides, out, encoder=encoder, settings=BankSettings(tiles=TILES)).failures
    )


@pytest.mark.parametrize("work", [embedded, bagged, banked])
def test_failed_slides_leave_no_file_open(
    work: Callable[[Path, Path], int], bad: Path, tmp_path: Path, without_sweep: None
) -> None:
    assert work(bad, tmp_path / "out") == 4
    assert opened(bad) == []
