"""Drawn parameters of views as tensors on a device, and the operations that they steer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.tiles.colours import (
    brightened,
    contrasted,
    grey_of,
    hue_turned,
    saturated,
    stain_change,
    stains_changed,
)
from gigassl.tiles.pretrain.resampling import (
    Taps,
    blurred,
    crop_taps,
    gauss_taps,
    sums_of_rows,
    swapped,
)
from gigassl.tiles.pretrain.view_draws import JITTER, ViewDraws

# numbers of a batch of images that are worked on at a time: what a core's cache holds, and what
# fills a GPU without taking the memory of the network
_AT_ONCE_CPU, _AT_ONCE_GPU = 2**18, 2**25
_COLOUR: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": brightened,
    "contrast": contrasted,
    "saturation": saturated,
    "hue": hue_turned,
}


@dataclass(frozen=True, kw_only=True)
class ViewPlan:
    """What is to be done to each tile: numbers on the tiles' device, decisions at hand.

    Attributes:
        rows, columns: what the rows and columns of the views are made of, mirrored already.
        transposed: whether rows and columns change places then.
        stain: matrix and shift of each tile; None leaves stains as they are.
        jitter: factors of brightness, contrast and saturation, and turn of the hue.
        order: numbers of these operations in the order of each tile; -1 is none.
        colours: numbers of those that the settings leave any strength.
        grey, blur: whether each tile becomes grey, and is blurred.
        gauss: what rows and columns are made of in a blur.
    """

    rows: Taps
    columns: Taps
    transposed: list[bool]
    stain: tuple[Tensor, Tensor] | None
    jitter: Float32[Tensor, "tile 4"]
    order: list[list[int]]
    colours: tuple[int, ...]
    grey: list[bool]
    blur: list[bool]
    gauss: Taps

    @property
    def side_px(self) -> int:
        """Side of the views."""
        return self.rows.rows.shape[1]

    def __getitem__(self, some: slice) -> "ViewPlan":
        """That of some tiles."""
        stain = self.stain
        return ViewPlan(
            rows=self.rows[some],
            columns=self.columns[some],
            transposed=self.transposed[some],
            stain=None if stain is None else (stain[0][some], stain[1][some]),
            jitter=self.jitter[some],
            order=self.order[some],
            colours=self.colours,
            grey=self.grey[some],
            blur=self.blur[some],
            gauss=self.gauss[some],
        )


def planned(
    drawn: ViewDraws, settings: AugmentationSettings, *, source_px: int, side_px: int,
    device: torch.device,
) -> ViewPlan:  # fmt: skip
    """What to do with tiles of ``source_px`` to get the views drawn, of ``side_px``."""
    turns = drawn.quarter_turns
    top, height = _kept(drawn.top, drawn.height, source_px)
    left, width = _kept(drawn.left, drawn.width, source_px)
    # a quarter turn is one of the mirrorings, then rows for columns
    flip_rows = drawn.flip_y ^ (turns >= 2)
    flip_columns = drawn.flip_x ^ ((turns == 1) | (turns == 2))
    matrix, shift = stain_change(drawn.alphas, drawn.betas)
    sigma = drawn.sigma.to(device, non_blocking=True)
    return ViewPlan(
        rows=crop_taps(top, height, flip=flip_rows, side_px=side_px, device=device),
        columns=crop_taps(left, width, flip=flip_columns, side_px=side_px, device=device),
        transposed=(turns % 2 == 1).tolist(),
        stain=(_sent(matrix, device), _sent(shift, device)) if settings.stain else None,
        jitter=_sent(drawn.jitter, device),
        order=drawn.order.tolist(),
        colours=tuple(i for i, name in enumerate(JITTER) if getattr(settings, name)),
        grey=drawn.grey.tolist(),
        blur=drawn.blurred.tolist(),
        gauss=gauss_taps(sigma, blur_px=settings.blur_px, side_px=side_px),
    )


def _kept(start: Tensor, share: Tensor, source_px: int) -> tuple[Tensor, Tensor]:
    length = (share * source_px).round().clamp(min=1).long()
    return (start * (source_px - length + 1)).long(), length


def _sent(values: Tensor, device: torch.device) -> Tensor:
    # a GPU is not waited for
    return values.float().to(device, non_blocking=True)


def made(
    tiles: UInt8[Tensor, "tile row col 3"], plan: ViewPlan, *, mean: Sequence[float],
    std: Sequence[float],
) -> Float32[Tensor, "tile 3 out_row out_col"]:  # fmt: skip
    """The planned views, normalised, in float32 whatever autocast says."""
    count, source_px, _, _ = tiles.shape
    side_px, device = plan.side_px, tiles.device
    at_once = _AT_ONCE_CPU if device.type == "cpu" else _AT_ONCE_GPU
    step = max(1, at_once // (3 * max(source_px, side_px) ** 2))
    centre, spread = torch.tensor([mean, std], dtype=torch.float32).view(2, 3, 1, 1)
    scale, shift = _sent(1 / spread, device), _sent(-centre / spread, device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        views = torch.empty(count, 3, side_px, side_px, device=device)
        for first in range(0, count, step):
            some = slice(first, first + step)
            images = _changed(tiles[some], plan[some])
            torch.mul(images, scale, out=views[some]).add_(shift)
    return views


def _changed(tiles: Tensor, plan: ViewPlan) -> Tensor:
    images = _cropped(tiles, plan)
    if plan.stain is not None:
        images = stains_changed(images, *plan.stain)
    for nth in range(len(JITTER)):
        for number in plan.colours:
            chosen = [order[nth] == number for order in plan.order]
            values = plan.jitter[:, number]
            images = _where(chosen, images, _COLOUR[JITTER[number]], values)
    images = _where(plan.grey, images, lambda some: grey_of(some).repeat(1, 3, 1, 1))
    return _where(plan.blur, images, blurred, plan.gauss)


def _where(
    chosen: list[bool], images: Tensor, change: Callable[..., Tensor], *values: Tensor | Taps
) -> Tensor:
    """Changes the chosen images, each with its own values."""
    if all(chosen):
        return change(images, *values)
    if any(chosen):
        at = torch.tensor(chosen).nonzero()[:, 0].to(images.device, non_blocking=True)
        images[at] = change(images[at], *(value[at] for value in values))
    return images


def _cropped(tiles: Tensor, plan: ViewPlan) -> Float[Tensor, "tile 3 row col"]:
    count, side = len(tiles), plan.side_px
    pixels = tiles.flatten(2).float().div_(255)
    down = sums_of_rows(pixels, plan.rows)  # row of the view, column and channel of the tile
    columns = swapped(down).view(count, tiles.shape[2], 3 * side)
    across = sums_of_rows(columns, plan.columns)  # column of the view, channel and row
    if all(plan.transposed):
        return _transposed(across)
    images = swapped(across).view(count, 3, side, side)
    return _where(plan.transposed, images, lambda _, turned: _transposed(turned), across)


def _transposed(across: Tensor) -> Tensor:
    count, side, _ = across.shape
    return across.view(count, side, 3, side).transpose(1, 2).contiguous()
