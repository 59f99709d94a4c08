"""Draws of a bank: which tiles of a slide, with which augmentation, and when they are read."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from gigassl.bags.bank_info import Draw
from gigassl.errors import SettingsError
from gigassl.tiles.augmentation import Augmentation, AugmentationSettings, draw_augmentation

_Coords = Int64[np.ndarray, "tile 2"]
_Chosen = Int64[np.ndarray, " chosen"]


@dataclass(frozen=True, kw_only=True)
class DrawSettings:
    """What is drawn from a slide; the defaults are the published ones.

    Attributes:
        augmentations: batches of tiles per slide, each with one draw of augmentation parameters.
        tiles: tiles per batch.
        draw: "scatter" takes tiles from anywhere, with replacement; "window" takes those around a
            random tile, for slide encoders that see neighbourhoods.
        seed: with the slide_id decides all draws of a slide.
        augmentation: what parameters are drawn from.
    """

    augmentations: int = 50
    tiles: int = 256
    draw: Draw = "scatter"
    seed: int = 0
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)

    def __post_init__(self) -> None:
        if self.augmentations < 1 or self.tiles < 1:
            raise SettingsError(
                "a bank needs at least one augmentation of one tile; got "
                f"--augmentations {self.augmentations} --tiles {self.tiles}"
            )
        if self.seed < 0:
            raise SettingsError(f"--seed must be 0 or more; got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class SlideDraws:
    """What a bank holds of one slide.

    Attributes:
        tiles: positions in the slide's grid.
        augmentations: the parameters that all tiles of a batch share.
    """

    tiles: Int64[np.ndarray, "augmentation tile"]
    augmentations: tuple[Augmentation, ...]


@dataclass(frozen=True, kw_only=True)
class ReadingStep:
    """A stretch of a slide's augmentations, and the tiles to read before they are encoded.

    Attributes:
        augmentations: which ones.
        new: tiles that no earlier step read, in the order of the grid.
        spent: tiles that no later step needs.
    """

    augmentations: range
    new: Int64[np.ndarray, " new"]
    spent: Int64[np.ndarray, " spent"]


def draw_for_slide(
    settings: DrawSettings, *, slide_id: str, coords: Int64[np.ndarray, "tile 2"]
) -> SlideDraws:
    """The draws of one slide; they depend on seed, slide_id and grid alone.

    More augmentations leave the first ones as they are.
    """
    name = hashlib.sha256(slide_id.encode()).digest()
    generator = np.random.default_rng([settings.seed, *np.frombuffer(name, np.uint32).tolist()])
    tiles, augmentations = [], []
    for _ in range(settings.augmentations):
        augmentations.append(draw_augmentation(settings.augmentation, generator))
        tiles.append(_DRAWS[settings.draw](coords, settings.tiles, generator))
    return SlideDraws(tiles=np.stack(tiles), augmentations=tuple(augmentations))


def _scatter(coords: _Coords, n_tiles: int, generator: np.random.Generator) -> _Chosen:
    return generator.integers(len(coords), size=n_tiles)


def _window(coords: _Coords, n_tiles: int, generator: np.random.Generator) -> _Chosen:
    """The tiles nearest to a random one: whole rings of squares, the last ring from its middle on.

    Where the slide has fewer tiles, they are filled up with random repetitions.
    """
    away = np.abs(coords - coords[generator.integers(len(coords))])
    nearest = np.lexsort((away.sum(axis=1), away.max(axis=1)))[:n_tiles]
    more = generator.integers(len(coords), size=n_tiles - len(nearest))
    return np.concatenate([nearest, more])


_DRAWS: Mapping[Draw, Callable[[_Coords, int, np.random.Generator], _Chosen]] = {
    "scatter": _scatter,
    "window": _window,
}


def reading_steps(
    tiles: Int64[np.ndarray, "augmentation tile"], *, most_held: int
) -> list[ReadingStep]:
    """Reads each tile once, keeps it from its first to its last use, and holds few at a time.

    A slide whose tiles all fit is read in one step, in the order of its grid, so that neighbours
    share the decoding of what is stored around them. A larger one is read in stretches of
    augmentations, as long as they may be; with stretches of one, never more than about a fifth of
    all draws are held, since tiles of large slides are seldom drawn twice.

    Args:
        tiles: positions in the grid.
        most_held: tiles that may be in memory, those read one step ahead included.
    """
    n_augmentations = len(tiles)
    length = n_augmentations
    while length > 1 and most_at_once(tiles, length=length) > most_held:
        length = (length + 1) // 2
    return list(_steps(tiles, length=length))


def most_at_once(tiles: Int64[np.ndarray, "augmentation tile"], *, length: int) -> int:
    """Tiles in memory at the worst moment, in steps of ``length`` augmentations."""
    held, most, kept = 0, 0, 0
    for step in _steps(tiles, length=length):
        # the step before is still being encoded while this one is read
        held = kept + len(step.new)
        most = max(most, held)
        kept = held - len(step.spent)
        most = max(most, kept)
    return most


def _steps(tiles: Int64[np.ndarray, "augmentation tile"], *, length: int) -> Iterator[ReadingStep]:
    starts = range(0, len(tiles), length)
    step_of = np.repeat(np.arange(len(tiles)) // length, tiles.shape[1])
    distinct, first = np.unique(tiles.ravel(), return_index=True)
    from_end = np.unique(tiles.ravel()[::-1], return_index=True)[1]
    first_step, last_step = step_of[first], step_of[tiles.size - 1 - from_end]
    for i, start in enumerate(starts):
        yield ReadingStep(
            augmentations=range(start, min(start + length, len(tiles))),
            new=distinct[first_step == i],
            spent=distinct[last_step == i],
        )
