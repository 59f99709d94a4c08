"""Images as tiles: how they are cut, averaged and read."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gigassl.errors import SettingsError, SlideError
from gigassl.tiles.image_files import image_files_below, read_rgb
from gigassl.tiles.image_tiles import ImageCut, cut_image


def numbered(rows: int, cols: int) -> np.ndarray:
    """An image in which red and green tell where a pixel is."""
    y, x = np.mgrid[:rows, :cols]
    return np.stack([y % 256, x % 256, 0 * x], axis=2).astype(np.uint8)


@given(
    rows=st.integers(1, 150), cols=st.integers(1, 150), tile_px=st.integers(1, 40),
    scale=st.sampled_from([0.31, 0.5, 0.995, 1.0, 1.24, 2.0, 3.3]),
)  # fmt: skip
def test_as_many_tiles_as_fit(rows: int, cols: int, tile_px: int, scale: float) -> None:
    cut = ImageCut(tile_px=tile_px, mpp=scale, image_mpp=1.0)
    side = max(1.0, tile_px * (1.0 if abs(1 / scale - 1) <= 0.02 else scale))
    down, across = int(rows / side + 1e-9), int(cols / side + 1e-9)
    if down * across == 0:
        with pytest.raises(SlideError, match="less than one tile"):
            cut_image(numbered(rows, cols), cut)
        return
    assert cut_image(numbered(rows, cols), cut).shape == (down * across, tile_px, tile_px, 3)


def test_pixels_at_the_right_resolution_stay_as_they_are() -> None:
    image = numbered(50, 70)
    tiles = cut_image(image, ImageCut(tile_px=20, mpp=0.5, image_mpp=0.499))
    assert len(tiles) == 6
    # two rows of three from the middle: 5 px are left above, 5 at the left
    np.testing.assert_array_equal(tiles[0], image[5:25, 5:25])
    np.testing.assert_array_equal(tiles[5], image[25:45, 45:65])


def test_shrinking_averages_areas() -> None:
    image = numbered(40, 40)
    (tile,) = cut_image(image, ImageCut(tile_px=10, mpp=2.0, image_mpp=0.5))
    means = image.reshape(10, 4, 10, 4, 3).mean(axis=(1, 3))
    assert np.abs(tile - means).max() <= 0.5


def test_a_whole_image_is_one_tile() -> None:
    image = numbered(30, 60)
    (tile,) = cut_image(image, ImageCut(tile_px=30))
    assert np.abs(tile[..., 1] - (np.arange(30) * 2 + 0.5)).max() <= 1
    (same,) = cut_image(numbered(30, 30), ImageCut(tile_px=30))
    np.testing.assert_array_equal(same, numbered(30, 30))


@pytest.mark.parametrize("wrong", [{"tile_px": 0}, {"mpp": 0.0}, {"image_mpp": float("nan")}])
def test_numbers_above_zero(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="above zero"):
        ImageCut(**wrong)  # type: ignore[arg-type]


def test_modes_and_hidden_files(tmp_path: Path) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, 2))
    rgba = np.dstack([numbered(6, 8), np.zeros((6, 8), np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "rgba.png"), numbered(6, 8))
    Image.fromarray(grey.astype(np.uint16) * 200).save(tmp_path / "deep.png")
    with pytest.raises(SlideError, match="8 bits"):
        read_rgb(tmp_path / "deep.png")
    with pytest.raises(SlideError, match="No such file"):
        read_rgb(tmp_path / "none.png")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    found = [path.name for path in image_files_below(tmp_path)]
    assert found == ["deep.png", "grey.png", "rgba.png"]
