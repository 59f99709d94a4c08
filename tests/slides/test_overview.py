"""Overview pictures: written whole, of a legible size, with tissue and tiles where they belong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gigassl.slides.grid import GridSettings, SlideInfo, TissueMask, make_grid
from gigassl.slides.overview import save_overview


def drawn(path: Path, info: SlideInfo, *, with_tissue: bool = True) -> np.ndarray:
    """The picture of a grey slide whose left half is tissue."""
    cols = 200
    rows = max(1, round(cols * info.height_l0 / info.width_l0))
    mask = np.zeros((rows, cols), dtype=bool)
    mask[:, : cols // 2] = True
    tissue = TissueMask(mask=mask, width_l0=info.width_l0, height_l0=info.height_l0)
    grid = make_grid(info, GridSettings(), tissue=tissue)
    save_overview(
        path,
        thumbnail=np.full((rows, cols, 3), 200, dtype=np.uint8),
        slide_id="a-slide",
        info=info,
        tissue=tissue if with_tissue else None,
        grid=grid if with_tissue else None,
    )
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(
    ("width_l0", "height_l0"), [(1200, 900), (40_000, 30_000), (100_000, 90_000), (3000, 40_000)]
)
def test_marks_lie_where_the_tissue_is(tmp_path: Path, width_l0: int, height_l0: int) -> None:
    info = SlideInfo(width_l0=width_l0, height_l0=height_l0, mpp=0.5)
    image = drawn(tmp_path / "new" / "o.png", info).astype(int)
    assert 1500 < max(image.shape) < 1800
    picture_rows = image.shape[0] - 84
    picture = image[: picture_rows - 80]
    coloured = np.ptp(picture, axis=2) > 8
    shown = round(width_l0 * 1600 / max(width_l0, height_l0))
    left = (image.shape[1] - shown) // 2
    assert coloured[:, left + 5 : left + shown // 2 - 5].mean() > 0.5
    # a kept tile may hang over the tissue by half its side
    beyond = round(112 * shown / width_l0) + 8
    assert not coloured[:, left + shown // 2 + beyond : left + shown].any()
    assert image[picture_rows:].min() < 100  # the caption


def test_without_tissue_and_tiles_only_the_thumbnail_is_shown(tmp_path: Path) -> None:
    info = SlideInfo(width_l0=4000, height_l0=3000, mpp=0.5)
    image = drawn(tmp_path / "o.png", info, with_tissue=False)
    assert (image[:1000, :1000] == 200).all()


def test_same_bytes(tmp_path: Path) -> None:
    info = SlideInfo(width_l0=4000, height_l0=3000, mpp=0.5)
    for name in ("a", "b"):
        drawn(tmp_path / f"{name}.png", info)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
