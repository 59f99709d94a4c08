"""Random views of a batch of tiles, every tile with a draw of its own, on the tiles' device."""

from collections.abc import Sequence

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.tiles.pretrain.settings import TileViewSettings
from gigassl.tiles.pretrain.view_draws import draw_parameters
from gigassl.tiles.pretrain.view_plan import made, planned


def draw_views(  # noqa: PLR0913 - all that a step of the training knows
    tiles: UInt8[Tensor, "tile row col 3"],
    partners: UInt8[Tensor, "tile row col 3"] | None = None,
    *,
    settings: TileViewSettings,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
    part: tuple[int, int] = (0, 1),
) -> list[Float32[Tensor, "tile 3 _ _"]]:
    """Normalised views of each tile: the first, the second, then the small ones.

    Two processes that see halves of a batch get the views that one would make of the whole: all
    draws are made, and those of the own part taken.

    Args:
        tiles: square tiles of any side.
        partners: what the second views are of; None for the tiles themselves.
        settings: which views.
        mean, std: of RGB in 0..1, that the encoder's input is normalised with.
        generator: on the CPU; that of the step, the same in all processes.
        part: (rank, world); the tiles are those at ``rank::world`` of the whole batch.
    """
    rank, world = part
    large = [(settings.first, tiles), (settings.second, tiles if partners is None else partners)]
    wanted = [(drawn_from, seen, settings.side_px) for drawn_from, seen in large]
    wanted += [(settings.small, tiles, settings.small_px)] * settings.n_small
    views = []
    for drawn_from, seen, side_px in wanted:
        drawn = draw_parameters(drawn_from, len(tiles) * world, generator=generator)
        plan = planned(
            drawn[rank::world], drawn_from, source_px=seen.shape[1], side_px=side_px,
            device=seen.device,
        )  # fmt: skip
        views.append(made(seen, plan, mean=mean, std=std))
    return views


def random_views(
    tiles: UInt8[Tensor, "tile row col 3"], settings: AugmentationSettings, *, side_px: int,
    generator: torch.Generator,
) -> Float32[Tensor, "tile 3 {side_px} {side_px}"]:  # fmt: skip
    """A view of each tile, RGB from 0 to 1.

    In the order of ``AugmentationSettings``: crop, mirror, turn, stain, colours, grey, blur;
    torchvision's operations in float32, which nothing rounds on the way.

    Args:
        tiles: square tiles of any side.
        settings: what each tile's parameters are drawn from.
        side_px: side of the views.
        generator: on the CPU.
    """
    drawn = draw_parameters(settings, len(tiles), generator=generator)
    plan = planned(drawn, settings, source_px=tiles.shape[1], side_px=side_px, device=tiles.device)
    return made(tiles, plan, mean=(0, 0, 0), std=(1, 1, 1))
