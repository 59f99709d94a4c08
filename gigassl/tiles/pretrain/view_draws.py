"""What views of a batch are drawn at random: one row of numbers a tile, drawn on the CPU."""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from gigassl.tiles.augmentation import AugmentationSettings

JITTER = ("brightness", "contrast", "saturation", "hue")
_CROP_TRIES = 10
# how many random numbers of a tile serve what
_NUMBERS = {
    "area": _CROP_TRIES, "aspect": _CROP_TRIES, "place": 2, "flip": 2, "turn": 1, "alpha": 2,
    "beta": 2, "jitter": len(JITTER), "order": len(JITTER), "chance": 3, "sigma": 1,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ViewDraws:
    """One draw of parameters a tile.

    Attributes:
        height, width: of what is kept, as shares of the tile's side.
        top, left: where it lies, from 0 to below 1 of the room there is.
        flip_x, flip_y: mirrored left to right, top to bottom.
        quarter_turns: counter-clockwise turns by 90 degrees, after the mirroring.
        alphas, betas: of haematoxylin and of eosin, as ``stain_change`` takes them.
        jitter: factors of brightness, contrast and saturation, and turn of the hue.
        order: numbers of the operations of ``JITTER`` in their order; -1 where colours stay.
        grey: whether colour is taken away.
        blurred: whether the view is blurred.
        sigma: of the Gaussian blur, px.
    """

    height: Float64[Tensor, " tile"]
    width: Float64[Tensor, " tile"]
    top: Float64[Tensor, " tile"]
    left: Float64[Tensor, " tile"]
    flip_x: Bool[Tensor, " tile"]
    flip_y: Bool[Tensor, " tile"]
    quarter_turns: Int64[Tensor, " tile"]
    alphas: Float64[Tensor, "tile 2"]
    betas: Float64[Tensor, "tile 2"]
    jitter: Float64[Tensor, "tile 4"]
    order: Int64[Tensor, "tile 4"]
    grey: Bool[Tensor, " tile"]
    blurred: Bool[Tensor, " tile"]
    sigma: Float64[Tensor, " tile"]

    def __len__(self) -> int:
        return len(self.height)

    def __getitem__(self, some: slice | int) -> "ViewDraws":
        """Those of some tiles."""
        return ViewDraws(**{field.name: getattr(self, field.name)[some] for field in fields(self)})


def draw_parameters(
    settings: AugmentationSettings, n_tiles: int, *, generator: torch.Generator
) -> ViewDraws:
    """A draw of parameters for each of ``n_tiles`` tiles.

    Every number is drawn, also where its operation is then left out: what one setting says does
    not change the draws of the others, nor does the number of tiles those of the first ones.

    Args:
        settings: what is drawn from.
        n_tiles: how many.
        generator: on the CPU, so that any device gets the same views.
    """
    numbers = torch.rand(n_tiles, sum(_NUMBERS.values()), generator=generator, dtype=torch.float64)
    columns = torch.split(numbers, list(_NUMBERS.values()), dim=1)
    drawn = dict(zip(_NUMBERS, columns, strict=True))
    height, width = _crops(settings, drawn["area"], drawn["aspect"])
    flips = (drawn["flip"] < 0.5) & settings.flips
    chance = drawn["chance"]
    order = drawn["order"].argsort(dim=1)
    most = torch.tensor([getattr(settings, name) for name in JITTER], dtype=torch.float64)
    centre = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    return ViewDraws(
        height=height,
        width=width,
        top=drawn["place"][:, 0],
        left=drawn["place"][:, 1],
        flip_x=flips[:, 0],
        flip_y=flips[:, 1],
        quarter_turns=(drawn["turn"][:, 0] * 4).long() * settings.turns,
        alphas=1 + settings.stain * _signed(drawn["alpha"]),
        betas=settings.stain / 4 * _signed(drawn["beta"]),
        jitter=centre + most * _signed(drawn["jitter"]),
        order=order.masked_fill(chance[:, :1] >= settings.jitter_p, -1),
        grey=chance[:, 1] < settings.grey_p,
        blurred=chance[:, 2] < settings.blur_p,
        sigma=_between(drawn["sigma"][:, 0], *settings.blur_sigma),
    )


def _signed(numbers: Tensor) -> Tensor:
    return 2 * numbers - 1


def _between(numbers: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * numbers


def _crops(settings: AugmentationSettings, area: Tensor, aspect: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width as shares of the side; as torchvision does, whole after ten misfits."""
    low, high = (math.log(ratio) for ratio in settings.crop_ratio)
    areas = _between(area, *settings.crop_area)
    aspects = _between(aspect, low, high).exp()
    height, width = (areas / aspects).sqrt(), (areas * aspects).sqrt()
    fits = (height <= 1) & (width <= 1)
    first = fits.byte().argmax(dim=1, keepdim=True)  # of equal ones, the first
    found = fits.any(dim=1)
    return (
        height.gather(1, first)[:, 0].where(found, 1.0),
        width.gather(1, first)[:, 0].where(found, 1.0),
    )
