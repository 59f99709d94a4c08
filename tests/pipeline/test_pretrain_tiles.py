"""Pretraining of tile encoders from Python: kinds of source, records of what it saw, files."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gigassl
from gigassl.errors import SettingsError
from gigassl.evaluate.contamination import slides_record, united
from gigassl.pipeline.pretrain_tiles_data import (
    MOST_NAMED,
    TileData,
    TileDataOptions,
    TileDataSettings,
    kind_of,
    tile_data,
)
from gigassl.pipeline.pretrain_tiles_files import TileEncoderFiles
from gigassl.slides.cohort import read_cohort
from gigassl.slides.grid import GridSettings
from gigassl.tiles.encoders import encoder_record, load_encoder
from gigassl.tiles.pretrain.image_source import ImageIndex, ImageTiles
from gigassl.tiles.pretrain.settings import SamplingSettings, TileViewSettings
from gigassl.tiles.weights import load_checkpoint

SMALL = replace(TileDataSettings().tiles, grid=GridSettings(tile_px=32, target_mpp=1.0))


def save_images(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_a_source_is_slides_or_images_and_it_is_said(
    slides: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = save_images(tmp_path / "images", "a.png", "b.png")
    tiffs = save_images(tmp_path / "tiffs", "a.tif")
    with caplog.at_level(logging.INFO):
        assert kind_of(slides, images=None) == "slides"
        assert caplog.messages == []
        assert kind_of(images, images=None) == "images"
        assert kind_of(tiffs, images=None) == "slides"
    assert "holds no slides but images" in caplog.messages[0]
    assert "say --images" in caplog.messages[1]
    assert kind_of(tiffs, images=True) == "images"
    assert kind_of(read_cohort(slides), images=None) == "slides"
    for source in (read_cohort(slides), images / "a.png"):
        with pytest.raises(SettingsError, match="a folder of images"):
            kind_of(source, images=True)


def test_tiles_of_slides_and_of_images(slides: Path, tmp_path: Path) -> None:
    settings = TileDataSettings(tiles=SMALL)
    options = TileDataOptions()
    of_slides = tile_data(slides, tmp_path, settings=settings, options=options, fewest=4)
    assert (of_slides.kind, of_slides.source.tile_px) == ("slides", 32)
    assert list(of_slides.source.names) == ["alpha", "beta", "gamma"]
    images = save_images(tmp_path / "images", "a.png", "b.png")
    of_images = tile_data(images, tmp_path, settings=settings, options=options, fewest=4)
    assert (of_images.kind, of_images.source.n_tiles) == ("images", 8)
    assert of_images.pretrained_on(encoder_record("random:test_resnet")) == slides_record(
        ["a", "b"], ["a", "b"]
    )


def test_the_record_tells_what_the_weights_had_seen_before(tmp_path: Path) -> None:
    images = save_images(tmp_path / "images", "a.png")
    data = TileData(
        kind="slides",
        source=ImageTiles(images, tile_px=32, settings=SamplingSettings()),
    )
    bundled = encoder_record("efficientnet-lite0")
    assert data.pretrained_on(bundled) == slides_record(
        ["a.png"], ["a"], begun_from="efficientnet-lite0"
    )
    ours = replace(bundled, pretrained_on=slides_record(["x"], ["p"], begun_from="phikon"))
    assert data.pretrained_on(ours) == slides_record(
        ["a.png", "x"], ["a", "p"], begun_from="phikon"
    )
    first, second = slides_record(["b"], ["q"]), slides_record(["a"], ["p"])
    assert united(first, second) == united(second, first) == slides_record(["a", "b"], ["p", "q"])


def test_too_many_images_are_counted_and_not_named() -> None:
    n = MOST_NAMED + 1
    names = [f"{k}.png" for k in range(n)]
    index = ImageIndex(
        names=names, paths=[Path(name) for name in names], size=np.full((n, 2), 32),
        n_bytes=np.ones(n, np.int64),
    )  # fmt: skip
    source = ImageTiles(index, tile_px=32, settings=SamplingSettings(), memory_bytes=0)
    record = TileData(kind="images", source=source).pretrained_on(
        encoder_record("random:test_resnet")
    )
    assert record["count"] == n
    assert "slides" not in record


def test_the_file_says_what_a_tile_is_where_views_are_smaller(tmp_path: Path) -> None:
    images = save_images(tmp_path / "images", *(f"{k}.png" for k in range(8)))
    out = tmp_path / "enc.safetensors"
    preset = gigassl.PretrainTilesSettings().training
    settings = gigassl.PretrainTilesSettings(
        training=replace(preset, views=TileViewSettings(side_px=32), batch_size=8, steps=1),
        network=gigassl.TileNetwork(init_from="random:test_resnet?seed=3"),
        data=TileDataSettings(tiles=replace(SMALL, grid=GridSettings(tile_px=64))),
    )
    options = gigassl.PretrainTilesOptions(device="cpu")
    result = gigassl.pretrain_tiles(images, out, settings=settings, options=options)
    assert result.trained is not None
    record = load_encoder(str(out), batch_size=1).record
    # 64 px at 0.5 µm/px are as wide as the encoder's 32 px at 1 µm/px
    assert (record.input_px, record.mpp, record.mpp_basis) == (32, 1.0, "convention")
    again = gigassl.pretrain_tiles(images, out, settings=settings, options=options)
    assert again.trained is None
    assert load_checkpoint(out).card["training"]["source"]["kind"] == "images"


def test_files_of_a_training() -> None:
    files = TileEncoderFiles(out=Path("run/enc.safetensors"))
    assert files.path_of("best") == Path("run/enc.log/best.safetensors")
    assert TileEncoderFiles(out=files.out, keep="best").path_of("best") == files.out
    with pytest.raises(SettingsError, match=r"are \.safetensors files"):
        TileEncoderFiles(out=Path("enc.pth"))
