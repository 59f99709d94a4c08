"""Resampling with weights of each image's own: sums of weighted rows, then of columns.

Both the crop and the blur are separable and sparse: a row that comes out is a sum of a few rows
that go in. ``embedding_bag`` computes just that, in one pass over memory and on any device; dense
matrix products would do a hundred times the arithmetic.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True, kw_only=True)
class Taps:
    """What each row that comes out is made of.

    Attributes:
        rows: numbers of the rows that go in.
        weights: how much of each.
    """

    rows: Int64[Tensor, "tile out tap"]
    weights: Float[Tensor, "tile out tap"]

    def __getitem__(self, some: slice | Tensor) -> "Taps":
        """Those of some images."""
        return Taps(rows=self.rows[some], weights=self.weights[some])


def sums_of_rows(
    images: Float[Tensor, "tile row value"], taps: Taps
) -> Float[Tensor, "tile out value"]:
    """Weighted sums of the rows of each image, as its taps say."""
    tiles, height, width = images.shape
    first = torch.arange(0, tiles * height, height, device=images.device).view(-1, 1, 1)
    sums = embedding_bag(
        (taps.rows + first).flatten(0, 1),
        images.reshape(-1, width),
        per_sample_weights=taps.weights.flatten(0, 1),
        mode="sum",
    )
    return sums.view(tiles, -1, width)


def swapped(images: Float[Tensor, "tile row value"]) -> Float[Tensor, "tile value row"]:
    """Rows and columns of each image swapped, in memory."""
    if len(images) == 1:
        # single matrices are copied in blocks, twice as fast
        return images[0].t().contiguous()[None]
    return images.mT.contiguous()


def crop_taps(
    first: Int64[Tensor, " tile"], length: Int64[Tensor, " tile"], *, flip: Bool[Tensor, " tile"],
    side_px: int, device: torch.device,
) -> Taps:  # fmt: skip
    """Taps that resize some rows of each image to ``side_px``, linearly and antialiased.

    As Pillow and torchvision do it: a triangle as wide as the scale where images shrink.

    Args:
        first: first of the rows that are kept, on the CPU.
        length: how many are, on the CPU.
        flip: whether what comes out is mirrored.
        side_px: rows that come out.
        device: where the taps are wanted.
    """
    n_taps = math.ceil(2 * max(1.0, int(length.max()) / side_px)) if len(length) else 2
    begin, last, mirrored = (
        values.to(device, non_blocking=True).view(-1, 1, 1) for values in (first, length - 1, flip)
    )
    scale = (last + 1).double() / side_px
    support = scale.clamp(min=1)
    centre = scale * (torch.arange(side_px, device=device).view(-1, 1) + 0.5)
    place = (centre - support + 0.5).floor() + torch.arange(n_taps, device=device)
    weights = 1 - ((place + 0.5 - centre) / support).abs()
    weights = weights.clamp_(min=0).masked_fill_((place < 0) | (place > last), 0)
    weights /= weights.sum(dim=2, keepdim=True)
    rows = place.long().clamp(min=0).minimum(last) + begin
    return Taps(
        rows=torch.where(mirrored, rows.flip(1), rows),
        weights=torch.where(mirrored, weights.flip(1), weights).float(),
    )


def gauss_taps(sigma: Float[Tensor, " tile"], *, blur_px: int, side_px: int) -> Taps:
    """Taps of a Gaussian blur of ``blur_px`` taps; images are mirrored at their edges.

    The same kernel as torchvision's ``gaussian_blur``.
    """
    away = torch.arange(blur_px, device=sigma.device) - blur_px // 2
    kernel = (-0.5 * (away / sigma.view(-1, 1)) ** 2).exp()
    kernel /= kernel.sum(dim=1, keepdim=True)
    period = max(1, 2 * (side_px - 1))
    rows = (torch.arange(side_px, device=sigma.device)[:, None] + away).remainder(period)
    rows = torch.minimum(rows, period - rows)
    return Taps(
        rows=rows.expand(len(sigma), -1, -1),
        weights=kernel.float()[:, None].expand(-1, side_px, -1),
    )


def blurred(images: Float[Tensor, "tile 3 row col"], taps: Taps) -> Float[Tensor, "tile 3 row col"]:
    """Each image blurred along its columns and its rows."""
    tiles, channels, side, _ = images.shape
    each = Taps(
        rows=taps.rows.repeat_interleave(channels, 0),
        weights=taps.weights.repeat_interleave(channels, 0),
    )
    down = sums_of_rows(images.flatten(0, 1), each).view(tiles, channels * side, side)
    across = sums_of_rows(swapped(down), taps)
    return swapped(across).view(tiles, channels, side, side)
