"""The contact sheet: pictures where they belong, their names above, real tissue where there is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gigassl.files import MachineError
from gigassl.tiles.pretrain.contact_sheet import save_contact_sheet
from gigassl.tiles.pretrain.settings import TileViewSettings
from gigassl.tiles.pretrain.views import draw_views
from tests.shared_data import SHARED, needs_shared

GAP, CAPTION = 4, 20
SETTINGS = TileViewSettings(side_px=40, n_small=2, small_px=24)


def noise(n: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 200, (n, 48, 48, 3), dtype=torch.uint8, generator=generator)


def sheet(path: Path, tiles: Tensor, partners: Tensor | None = None) -> np.ndarray:
    save_contact_sheet(path, tiles, partners, settings=SETTINGS, seed=3)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize("with_partners", [False, True])
def test_each_row_holds_the_tile_and_then_its_views(tmp_path: Path, with_partners: bool) -> None:
    tiles, partners = noise(3), noise(3, seed=1) if with_partners else None
    found = sheet(tmp_path / "sheet.png", tiles, partners)
    columns = [tiles.numpy()] if partners is None else [tiles.numpy(), partners.numpy()]
    views = draw_views(
        tiles, partners, settings=SETTINGS, mean=(0, 0, 0), std=(1, 1, 1),
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    columns += [(view * 255).round().byte().permute(0, 2, 3, 1).numpy() for view in views]
    left, row_px = 0, 48 + GAP
    for pixels in columns:
        side = pixels.shape[1]
        for row in range(3):
            top = CAPTION + row * row_px
            assert np.array_equal(found[top : top + side, left : left + side], pixels[row])
        caption = found[:CAPTION, left : left + side]
        assert (caption < 128).any(), "a name stands above"
        left += side + GAP
    assert found.shape == (CAPTION + 3 * row_px, left - GAP, 3)


def test_a_dozen_is_shown_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    tiles = noise(15)
    found = sheet(tmp_path / "one.png", tiles)
    assert found.shape[0] == CAPTION + 12 * (48 + GAP)
    sheet(tmp_path / "two.png", tiles)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot write"):
        sheet(tmp_path / "missing" / "sheet.png", noise(1))


@needs_shared
def test_views_of_real_tissue_keep_the_colours_of_stains(tmp_path: Path) -> None:
    paths = sorted((SHARED / "data" / "glas" / "images").iterdir())[:12]
    tiles = torch.stack(
        [torch.from_numpy(np.array(Image.open(path).convert("RGB"))[:256, :256]) for path in paths]
    )
    settings = TileViewSettings()
    save_contact_sheet(tmp_path / "sheet.png", tiles, settings=settings, seed=0)
    sheet_px = np.asarray(Image.open(tmp_path / "sheet.png"))
    views = sheet_px[CAPTION:, 256 + GAP :].reshape(-1, 3).astype(int)
    tissue = views[views.mean(axis=1) < 200]
    red, green, blue = tissue.T
    # haematoxylin and eosin absorb green the most, whatever the jitter
    assert ((green <= red + 12) & (green <= blue + 12)).mean() > 0.99
