"""What decoders send: all tiles in order, in whole batches; errors as the last thing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gigassl.bags.prepare import PreparedSlide, TileSettings
from gigassl.errors import SlideError
from gigassl.files import MachineError
from gigassl.pipeline.opening import Opening, RunFacts
from gigassl.pipeline.ray_decoding import Decoding, OpenedSlide, decode_slide
from gigassl.slides.cohort import CohortSlide, read_cohort
from gigassl.slides.grid import GridSettings

TILES = TileSettings(grid=GridSettings(tile_px=56))
FACTS = RunFacts(
    encoder="e", encoder_digest="d", settings_digest="s", provenance={}, grid=TILES.grid
)


@pytest.mark.parametrize(("batch_size", "threads"), [(16, 1), (24, 3), (1000, 2)])
def test_all_tiles_come_in_order_in_whole_batches(
    slides: Path, batch_size: int, threads: int
) -> None:
    source = read_cohort(slides).slides[0]
    how = Decoding(opening=Opening(tiles=TILES), batch_size=batch_size, threads=threads)
    opened, *parcels = decode_slide(source, how, FACTS)
    assert isinstance(opened, OpenedSlide)
    assert (opened.info.slide_id, opened.info.tile_px) == ("alpha", 56)
    arrays = [parcel for parcel in parcels if isinstance(parcel, np.ndarray)]
    assert len(arrays) == len(parcels)
    assert all(len(array) % batch_size == 0 for array in arrays[:-1])
    prepared = Opening(tiles=TILES)(source)
    np.testing.assert_array_equal(opened.coords, prepared.grid.coords)
    whole = prepared.tiles.read(np.arange(len(prepared.grid)))
    prepared.close()
    np.testing.assert_array_equal(np.concatenate(arrays), whole)


def test_a_file_that_is_no_slide_is_told_as_its_failure(tmp_path: Path) -> None:
    (tmp_path / "broken.svs").write_bytes(b"no slide")
    source = read_cohort(tmp_path).slides[0]
    how = Decoding(opening=Opening(tiles=TILES), batch_size=16, threads=1)
    (told,) = decode_slide(source, how, FACTS)
    assert isinstance(told, SlideError)
    assert told.stage == "open"


def test_a_slide_damaged_in_the_middle_ends_with_its_failure(slides: Path, tmp_path: Path) -> None:
    data = bytearray((slides / "beta.svs").read_bytes())
    third = len(data) // 3
    data[third : third + 40_000] = bytes(40_000)
    (tmp_path / "beta.svs").write_bytes(data)
    source = read_cohort(tmp_path).slides[0]
    how = Decoding(opening=Opening(tiles=TILES), batch_size=16, threads=2)
    *_, told = decode_slide(source, how, FACTS)
    assert isinstance(told, SlideError)
    assert told.stage == "read"


class Starved(Opening):
    """Opening where no file handles are left."""

    def __call__(self, source: CohortSlide) -> PreparedSlide:
        raise OSError(24, "Too many open files")


def test_the_machines_fault_is_told_as_such(slides: Path) -> None:
    source = read_cohort(slides).slides[0]
    how = Decoding(opening=Starved(tiles=TILES), batch_size=16, threads=1)
    (told,) = decode_slide(source, how, FACTS)
    assert isinstance(told, MachineError)
    assert "no file handles left" in str(told)


def test_a_reader_that_is_no_longer_wanted_closes_its_slide(slides: Path) -> None:
    opened: list[PreparedSlide] = []

    class Watched(Opening):
        def __call__(self, source: CohortSlide) -> PreparedSlide:
            opened.append(super().__call__(source))
            return opened[-1]

    how = Decoding(opening=Watched(tiles=TILES), batch_size=1, threads=1)
    parcels = decode_slide(read_cohort(slides).slides[0], replace(how, batch_size=8), FACTS)
    next(parcels)
    next(parcels)
    parcels.close()  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="closed"):
        opened[0].slide.read_region(0, 0, level=0, width=8, height=8)
