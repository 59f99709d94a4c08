"""The stream: fixed order, failures in place, bounded reading ahead, everything closed."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from gigassl.bags.prepare import PreparedSlide, TileSettings, lay_tiles, look_at
from gigassl.files import MachineError
from gigassl.pipeline.progress import Silent
from gigassl.pipeline.stream import SlideInHand, encode_slides
from gigassl.slides.cohort import CohortSlide, read_cohort
from gigassl.slides.grid import GridSettings
from gigassl.tiles.engine import EngineSettings, TileEncoder
from gigassl.tiles.records import EncoderRecord


class MeanColour(torch.nn.Module):
    """The mean colour of a tile: a feature that a test can compute by itself."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


@pytest.fixture(scope="module")
def encoder() -> TileEncoder:
    record = EncoderRecord(
        name="mean-colour", source="random", architecture="none", dim=3, input_px=56,
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip
    return TileEncoder(MeanColour(), record=record, settings=EngineSettings(batch_size=8))


SETTINGS = TileSettings(grid=GridSettings(tile_px=56))


def prepare(source: CohortSlide) -> PreparedSlide:
    return lay_tiles(look_at(source, SETTINGS), SETTINGS)


def stream(
    slides: Path, encoder: TileEncoder, *, workers: int = 3, make: object = prepare
) -> Iterator[SlideInHand]:
    sources = read_cohort(slides).slides
    return encode_slides(
        sources, prepare=make, encoder=encoder, workers=workers, progress=Silent(),  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 4])
def test_features_are_those_of_each_tile_in_order(
    slides: Path, encoder: TileEncoder, workers: int
) -> None:
    done = list(stream(slides, encoder, workers=workers))
    assert [slide.source.slide_id for slide in done] == ["alpha", "beta", "gamma"]
    for slide in done:
        prepared = prepare(slide.source)
        tiles = prepared.tiles.read(np.arange(len(prepared.grid)))
        prepared.close()
        assert len(tiles) > encoder.batch_size
        expected = tiles.reshape(len(tiles), -1, 3).mean(axis=1) / 255
        assert slide.features is not None
        np.testing.assert_allclose(slide.features[0], expected, atol=1e-3)


def test_a_slide_damaged_in_the_middle_fails_alone(
    slides: Path, encoder: TileEncoder, tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    shutil.copytree(slides, folder)
    data = bytearray((folder / "beta.svs").read_bytes())
    third = len(data) // 3
    data[third : third + 40_000] = bytes(40_000)
    (folder / "beta.svs").write_bytes(data)
    alpha, beta, gamma = stream(folder, encoder)
    assert beta.failure is not None
    assert beta.failure.stage == "read"
    for whole in (alpha, gamma):
        assert whole.failure is None
        assert whole.features is not None


def test_the_machines_fault_stops_everything(slides: Path, encoder: TileEncoder) -> None:
    def starved(source: CohortSlide) -> PreparedSlide:
        if source.slide_id == "beta":
            raise OSError(24, "Too many open files")
        return prepare(source)

    done = stream(slides, encoder, make=starved)
    with pytest.raises(MachineError, match="no file handles left"):
        list(done)


def test_slides_are_closed_also_when_the_caller_stops_early(
    slides: Path, encoder: TileEncoder
) -> None:
    opened: list[PreparedSlide] = []
    lock = threading.Lock()

    def watched(source: CohortSlide) -> PreparedSlide:
        prepared = prepare(source)
        with lock:
            opened.append(prepared)
        return prepared

    done = stream(slides, encoder, make=watched)
    next(done)
    done.close()  # type: ignore[attr-defined]
    assert opened
    for prepared in opened:
        with pytest.raises(Exception, match="closed"):
            prepared.slide.read_region(0, 0, level=0, width=8, height=8)
