"""A picture of tiles beside their views, to look at before hours are spent on them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gigassl.files import written_whole
from gigassl.tiles.pretrain.settings import TileViewSettings
from gigassl.tiles.pretrain.views import draw_views

MAX_ROWS = 12
_GAP_PX, _CAPTION_PX = 4, 20
_SMALL_PX = 64
_WHITE, _INK = 255, (60, 60, 60)

Pixels = UInt8[np.ndarray, "tile row col 3"]


def save_contact_sheet(
    path: Path, tiles: UInt8[Tensor, "tile row col 3"],
    partners: UInt8[Tensor, "tile row col 3"] | None = None, *, settings: TileViewSettings,
    seed: int,
) -> None:  # fmt: skip
    """Writes a PNG with one row a tile: it, its partner where it has one, and its views.

    Everything has its own size in px, so that sharpness can be judged.

    Args:
        path: of the PNG.
        tiles: the first dozen is shown.
        partners: what the second views are of.
        settings: which views.
        seed: of the views.

    Raises:
        MachineError: disk full, read-only or missing folder.
    """
    tiles = tiles[:MAX_ROWS].cpu()
    columns = {"tile": tiles.numpy()}
    if partners is not None:
        partners = partners[:MAX_ROWS].cpu()
        columns["partner"] = partners.numpy()
    views = draw_views(
        tiles, partners, settings=settings, mean=(0, 0, 0), std=(1, 1, 1),
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    names = ["view 1", "view 2", *(f"small {i + 1}" for i in range(settings.n_small))]
    columns |= {name: _pixels(view) for name, view in zip(names, views, strict=True)}
    with written_whole(path) as part:
        _sheet(columns).save(part, format="PNG")


def save_pictures(
    path: Path, lines: Float[Tensor, "line tile channel row col"], *,
    colours: tuple[Sequence[float], Sequence[float]],
) -> None:  # fmt: skip
    """Writes a PNG of pictures in lines, one below the other; small ones enlarged.

    Args:
        lines: normalised; of one channel or three. The first dozen of each is shown.
        colours: mean and standard deviation of the channels, 0 to 1.

    Raises:
        MachineError: disk full, read-only or missing folder.
    """
    shown = lines[:, :MAX_ROWS].float().expand(-1, -1, 3, -1, -1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in colours)
    times = max(1, _SMALL_PX // shown.shape[-1])
    canvas: list[np.ndarray] = []
    for line in shown * std + mean:
        pixels = _pixels(line).repeat(times, axis=1).repeat(times, axis=2)
        framed = np.pad(
            pixels, [(0, 0), (0, _GAP_PX), (0, _GAP_PX), (0, 0)], constant_values=_WHITE
        )
        canvas.append(np.concatenate(list(framed), axis=1))
    with written_whole(path) as part:
        Image.fromarray(np.concatenate(canvas)).save(part, format="PNG")


def _pixels(views: Tensor) -> Pixels:
    pixels: Pixels = (views * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return pixels


def _sheet(columns: dict[str, Pixels]) -> Image.Image:
    """Columns of pictures side by side, each below its name."""
    height = max(pixels.shape[1] for pixels in columns.values()) + _GAP_PX
    widths = [pixels.shape[2] + _GAP_PX for pixels in columns.values()]
    n_rows = len(next(iter(columns.values())))
    canvas = np.full((_CAPTION_PX + n_rows * height, sum(widths) - _GAP_PX, 3), _WHITE, np.uint8)
    lefts = np.cumsum([0, *widths[:-1]]).tolist()
    for left, pixels in zip(lefts, columns.values(), strict=True):
        for row, picture in enumerate(pixels):
            top = _CAPTION_PX + row * height
            canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    sheet = Image.fromarray(canvas)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=_CAPTION_PX * 0.65)
    for left, name in zip(lefts, columns, strict=True):
        draw.text((left + 2, 2), name, fill=_INK, font=font)
    return sheet
