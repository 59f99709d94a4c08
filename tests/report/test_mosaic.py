"""Pictures of compressed slides: every channel where it belongs, whatever the sizes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gigassl.bags.grid import CompressedSlide
from gigassl.report.mosaic import components, mosaic, save_colours, save_mosaic


def compressed(n_rows: int, n_cols: int, *, dim: int, share: float = 0.8) -> CompressedSlide:
    rng = np.random.default_rng(0)
    kept = rng.random((n_rows, n_cols)) < share
    kept[0, 0] = True
    features = rng.normal(size=(n_rows, n_cols, dim)) * kept[..., None]
    return CompressedSlide(
        slide_id="s", features=features.astype(np.float16), kept=kept, origin_l0=(0.0, 0.0),
        step_l0=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("n_rows", "n_cols", "dim"), [(1, 1, 1), (9, 20, 3), (40, 25, 128), (3, 500, 17), (600, 4, 2)]
)
def test_a_mosaic_is_a_picture_of_bearable_size(n_rows: int, n_cols: int, dim: int) -> None:
    picture = mosaic(compressed(n_rows, n_cols, dim=dim))
    assert 600 <= max(picture.shape) <= 4000


def test_panels_show_their_channel_in_reading_order() -> None:
    kept = np.ones((4, 4), dtype=bool)
    features = np.zeros((4, 4, 4), dtype=np.float16)
    for channel in range(4):
        features[..., channel] = 1.0
        features[channel, 0, channel] = 5.0  # one bright cell: row tells the channel
    slide = CompressedSlide(
        slide_id="s", features=features, kept=kept, origin_l0=(0.0, 0.0), step_l0=1.0
    )
    picture = mosaic(slide)
    half = picture.shape[0] // 2
    for channel in range(4):
        row, col = divmod(channel, 2)
        panel = picture[row * half : (row + 1) * half, col * half : (col + 1) * half]
        red = panel[..., 0].astype(int)  # yellow is bright in viridis, its dark end is not
        bright = np.argwhere((red > 200) & (panel[..., 2] < 100))
        assert bright[:, 0].mean() / half * 4 == pytest.approx(channel + 0.5, abs=0.2)
        assert bright[:, 1].mean() / half * 4 == pytest.approx(0.5, abs=0.2)


def test_cells_without_a_tile_are_white() -> None:
    slide = compressed(10, 10, dim=1, share=0.5)
    picture = mosaic(slide)
    white = (picture == 255).all(axis=2)
    assert white.mean() == pytest.approx((~slide.kept).mean(), abs=0.02)


def test_channels_that_are_all_alike_or_all_zero_are_drawn() -> None:
    slide = compressed(5, 5, dim=2)
    slide.features[..., 0] = 3.0
    slide.features[..., 1] = 0.0
    assert len(np.unique(mosaic(slide).reshape(-1, 3), axis=0)) == 4


@pytest.mark.parametrize("dim", [1, 2, 3, 40])
def test_components_are_those_of_a_plain_decomposition(dim: int) -> None:
    slide = compressed(12, 9, dim=dim)
    features = slide.features[slide.kept].astype(np.float64)
    found = components(slide.features[slide.kept])
    scores, sizes, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    for part in range(min(3, dim)):
        expected = scores[:, part] * sizes[part]
        agree = np.abs(expected @ found[:, part]) / (expected @ expected)
        assert agree == pytest.approx(1.0, abs=1e-3)
    assert (found[:, dim:] == 0).all()


@pytest.mark.parametrize("save", [save_mosaic, save_colours])
def test_equal_slides_give_equal_files(save: object, tmp_path: Path) -> None:
    slide = compressed(7, 8, dim=5)
    for name in ("a.png", "b.png"):
        save(slide, tmp_path / name)  # type: ignore[operator]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "RGB"
