import errno
import os
import resource
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.errors import SlideError
from gigassl.files import MachineError
from gigassl.slides.average import shrink_blockwise
from gigassl.slides.reader import open_slide
from gigassl.slides.slide_files import SlideFileSettings, save_image
from tests.shared_data import SHARED, needs_shared
from tests.slides.jpeg_tiff import halved, painting, write_jpeg_tiff

WSI = SHARED / "data" / "wsi"


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = painting(900, 700)
    return write_jpeg_tiff(tmp_path_factory.mktemp("s") / "a.svs", [image, halved(image)])


def test_a_slide_says_its_size_resolution_and_levels(painted: Path) -> None:
    with open_slide(painted) as slide:
        assert (slide.info.width_l0, slide.info.height_l0) == (900, 700)
        assert (slide.info.mpp, slide.mpp_source) == (0.5, "file:mpp")
        assert slide.level_sizes == ((900, 700), (450, 350))
        assert slide.vendor == "aperio"
    with open_slide(painted, cohort_mpp=0.25) as slide:
        assert (slide.info.mpp, slide.mpp_source) == (0.25, "cohort")


def test_the_digest_follows_the_content_and_not_the_clock(painted: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.svs"
    copy.write_bytes(painted.read_bytes())
    os.utime(copy, (0, 0))
    other = write_jpeg_tiff(tmp_path / "other.svs", [painting(900, 700, seed=1)])
    digests = [open_slide(path).digest for path in (painted, copy, other)]
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 16


def test_what_lies_outside_the_slide_is_white(painted: Path) -> None:
    with open_slide(painted) as slide:
        region = slide.read_region(880, 690, level=0, width=40, height=30)
    assert region.shape == (30, 40, 3)
    assert (region[10:] == 255).all()
    assert (region[:, 20:] == 255).all()
    assert region[:10, :20].mean() < 250


def test_a_missing_stored_tile_is_white(tmp_path: Path) -> None:
    path = write_jpeg_tiff(tmp_path / "a.svs", [painting(600, 600)], replace={0: b""})
    with open_slide(path) as slide:
        assert (slide.read_region(0, 0, level=0, width=256, height=256) == 255).all()


@pytest.mark.parametrize("mpp", [1.0, 1.3, 4.0])
def test_a_thumbnail_covers_the_slide_and_averages(painted: Path, mpp: float) -> None:
    image = painting(900, 700)
    with open_slide(painted) as slide:
        thumbnail = slide.thumbnail(mpp)
    assert thumbnail.shape == (round(350 / (mpp / 1.0)), round(450 / (mpp / 1.0)), 3)
    assert abs(thumbnail.mean() - image.mean()) < 1.0


def test_a_thumbnail_is_never_larger_than_the_slide(painted: Path) -> None:
    with open_slide(painted) as slide:
        assert slide.thumbnail(0.01).shape == (700, 900, 3)


@settings(max_examples=15)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 70),
    shrink=st.floats(1.0, 30.0),
    block_px=st.integers(20, 200),
)
def test_blockwise_shrinking_equals_slow_area_averaging(
    width: int, height: int, shrink: float, block_px: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out_size = max(1, round(width / shrink)), max(1, round(height / shrink))
    largest = 0

    def read(x: int, y: int, *, width: int, height: int) -> np.ndarray:
        nonlocal largest
        largest = max(largest, width, height)
        return image[y : y + height, x : x + width]

    result = shrink_blockwise(read, size=(width, height), out_size=out_size, block_px=block_px)
    expected = slow_average(image, out_size=out_size)
    assert np.abs(result - expected).max() <= 0.51
    assert largest <= max(block_px, width / out_size[0], height / out_size[1]) + 2


def slow_average(image: np.ndarray, *, out_size: tuple[int, int]) -> np.ndarray:
    """Mean over each output pixel's area, from the image as a function of continuous position."""
    width, height = out_size

    def along(values: np.ndarray, count: int) -> np.ndarray:
        total = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
        edges = np.linspace(0, len(values), count + 1)
        below = np.minimum(edges.astype(int), len(values) - 1)
        at_edge = total[below] + (edges - below)[:, None, None] * values[below]
        return np.asarray(np.diff(at_edge, axis=0) / (len(values) / count))

    rows = along(image.astype(float), height)
    result: np.ndarray = along(rows.transpose(1, 0, 2), width).transpose(1, 0, 2)
    return result


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (b"hello", "not a whole-slide image"), (None, "does not exist")],
)
def test_each_bad_file_has_its_own_reason(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "bad.svs"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SlideError, match=reason) as caught:
        open_slide(path)
    assert caught.value.stage == "open"


def test_a_folder_is_no_slide(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="a folder"):
        open_slide(tmp_path)


def test_a_truncated_slide_fails_when_its_pixels_are_read(painted: Path, tmp_path: Path) -> None:
    # directories stand at the end of this file: cut the pixels out of its middle instead
    data = bytearray(painted.read_bytes())
    data[2000:20000] = bytes(18000)
    path = tmp_path / "cut.svs"
    path.write_bytes(bytes(data))
    with open_slide(path) as slide, pytest.raises(SlideError, match="damaged") as caught:
        slide.read_region(0, 0, level=0, width=900, height=700)
    assert caught.value.stage == "read"


def test_no_file_handles_is_the_machines_fault(painted: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, hard), hard))
        with pytest.raises(OSError, match="Too many open files") as full:
            held.extend(os.open(painted, os.O_RDONLY) for _ in range(100))
        held += _handles_until_full(painted)
        assert full.value.errno == errno.EMFILE
        with pytest.raises(MachineError, match="no file handles left"):
            open_slide(painted)
    finally:
        for handle in held:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _handles_until_full(path: Path) -> list[int]:
    held = []
    try:
        while True:
            held.append(os.open(path, os.O_RDONLY))
    except OSError:
        return held


@needs_shared
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("boxes.tiff", r"352\.78 µm/px"),
        ("broken.svs", "not a whole-slide image"),
        ("OS-2-ndpi.ome.tif", "OpenSlide does not read as a slide"),
        ("TCGA-CR-7395-01A-01-TS1.svs", "no microns-per-pixel"),
    ],
)
def test_real_files_are_refused_with_their_reason(name: str, reason: str) -> None:
    with pytest.raises(SlideError, match=reason):
        open_slide(WSI / name)


@needs_shared
def test_a_real_slide_without_mpp_takes_the_option() -> None:
    with open_slide(WSI / "TCGA-CR-7395-01A-01-TS1.svs", default_mpp=0.5) as slide:
        assert (slide.info.mpp, slide.mpp_source) == (0.5, "option")
        assert slide.thumbnail(8.0).std() > 10


@pytest.mark.parametrize("downsamples", [(1,), (1, 4)])
@pytest.mark.parametrize(
    ("claimed", "sentence"),
    [
        ({256: 10**6, 257: 10**6}, "claim 79,727,041 stored tiles, there are 25"),
        ({256: 10**6}, "claim 44,645 stored tiles, there are 25"),
        ({257: 2**31 - 1}, "claim 95,869,810 stored tiles, there are 25"),
        # as many tiles as are there, each of 134 million pixels
        (
            {256: 5 * 8192, 257: 5 * 16_384, 322: 8192, 323: 16_384},
            "claims 40,960 × 81,920 px, which cannot be in a file of",
        ),
    ],
)
def test_a_header_that_claims_far_more_than_the_file_holds_is_refused_at_once(
    claimed: Mapping[int, int], sentence: str, downsamples: tuple[int, ...], tmp_path: Path
) -> None:
    """Read as it says, it would take hours and the memory of the machine."""
    path = tmp_path / "bomb.svs"
    image = np.full((560, 560, 3), 200, np.uint8)
    stored = SlideFileSettings(downsamples=downsamples, tile_px=112)
    save_image(image, path, mpp=0.5, settings=stored)
    data = bytearray(path.read_bytes())
    (directory,) = struct.unpack_from("<I", data, 4)
    (n_entries,) = struct.unpack_from("<H", data, directory)
    for at in range(directory + 2, directory + 2 + 12 * n_entries, 12):
        (tag,) = struct.unpack_from("<H", data, at)
        if tag in claimed:
            struct.pack_into("<I", data, at + 8, claimed[tag])
    path.write_bytes(data)
    with pytest.raises(SlideError, match=sentence):
        open_slide(path).thumbnail(8.0)
