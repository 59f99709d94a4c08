"""Where the digits of a synthetic slide lie and what they are: a tilted and an upright rectangle.

The task of Tellez et al., Neural Image Compression (arXiv 1811.02840): the class of the digits in
the tilted rectangle is the slide's label, those in the upright one distract, and digits elsewhere
are of any class. So a classifier needs content and layout.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from gigassl.errors import SettingsError

EMPTY = -1
"""Class of a cell without a digit."""

_BLOCK, _SLIDE, _MIXTURE = range(3)  # what numbers of a seed are for


@dataclass(frozen=True, kw_only=True)
class DigitSlideSettings:
    """Everything that decides the synthetic slides, save their number, seed and digits.

    Attributes:
        cells: cells along a side of the slide.
        cell_px: side of a cell and of a digit, px.
        fill: share of the cells that hold a digit.
        long_cells: the long sides of the rectangles are uniform between these two; in cells. The
            short sides are half of them.
        classes: digits in use; the label is one of them.
        jitter: digits are moved by up to this share of a cell, in both directions.
        threshold: pixels of digits above it are white and all others black; None keeps the greys.
    """

    cells: int = 32
    cell_px: int = 8
    fill: float = 0.6
    long_cells: tuple[float, float] = (10.0, 17.0)
    classes: tuple[int, ...] = (0, 1, 2, 3)
    jitter: float = 0.0
    threshold: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.fill <= 1.0:
            raise SettingsError(f"fill is a share of the cells, above 0 to 1; got {self.fill}")
        if not 0.0 <= self.jitter <= 0.5:
            raise SettingsError(f"jitter is 0 to 0.5 cells; got {self.jitter}")
        if self.cell_px < 4:
            raise SettingsError(f"cells need at least 4 px a side; got {self.cell_px}")
        shortest, longest = self.long_cells
        # a tilted rectangle of sides L and L/2 takes 1.5 L / √2 of the slide
        most = self.cells * math.sqrt(2) / 1.5
        if not 2.0 <= shortest <= longest <= most:
            raise SettingsError(
                f"long sides are 2 to {most:.1f} cells where a slide has {self.cells} × "
                f"{self.cells}, so that a tilted rectangle lies on it; got {shortest:g} to "
                f"{longest:g}"
            )
        if len(set(self.classes)) < 2 or not set(self.classes) <= set(range(10)):
            raise SettingsError(f"classes are two or more of the digits 0-9; got {self.classes}")
        if len(set(self.classes)) < len(self.classes):
            raise SettingsError(f"a digit is named twice among the classes {self.classes}")

    @property
    def side_px(self) -> int:
        """Side of a slide in px."""
        return self.cells * self.cell_px

    @property
    def n_digits(self) -> int:
        """Digits on a slide."""
        return round(self.fill * self.cells**2)


DIGIT_SLIDE_PRESETS: Mapping[str, DigitSlideSettings] = {
    "paper": DigitSlideSettings(
        cells=400, cell_px=9, fill=0.162, long_cells=(4.0, 200.0), classes=tuple(range(10)),
        jitter=0.5, threshold=63,
    ),
    "standard": DigitSlideSettings(),
    "easy": DigitSlideSettings(fill=0.9, long_cells=(16.0, 23.0)),
}  # fmt: skip
"""The paper's slides (3,600 px, 25,920 digits), and two miniatures for scikit-learn's digits."""


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """A rectangle on the grid, half as wide as long.

    Attributes:
        row, col: its centre, in cells from the upper left corner of the slide.
        long: its long side, in cells.
        angle: of the long side against the horizontal: 0 and 90 upright, 45 and 135 tilted.
    """

    row: float
    col: float
    long: float
    angle: float

    def holds(
        self, rows: Float64[np.ndarray, "*points"], cols: Float64[np.ndarray, "*points"]
    ) -> Bool[np.ndarray, "*points"]:
        """Whether points, in cells, lie inside."""
        turn = math.radians(self.angle)
        down, right = rows - self.row, cols - self.col
        along = right * math.cos(turn) + down * math.sin(turn)
        across = down * math.cos(turn) - right * math.sin(turn)
        inside: Bool[np.ndarray, "*points"] = (np.abs(along) <= self.long / 2) & (
            np.abs(across) <= self.long / 4
        )
        return inside

    def mask(self, side: int, *, cells: int) -> Bool[np.ndarray, "row col"]:
        """The slide of ``cells`` cells a side as ``side`` pixels a side, by their centres."""
        middle = (np.arange(side) + 0.5) * (cells / side)
        return self.holds(*np.meshgrid(middle, middle, indexing="ij"))


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedDigits:
    """Digits of one slide, row by row.

    Attributes:
        cells: (row, column) of each cell with a digit.
        moved_px: (down, right) by which that digit is moved.
        classes: of the digits.
        picks: which image of its class each digit shows, as a share of their number.
    """

    cells: Int64[np.ndarray, "digit 2"]
    moved_px: Int64[np.ndarray, "digit 2"]
    classes: Int64[np.ndarray, " digit"]
    picks: Float64[np.ndarray, " digit"]

    @property
    def shares(self) -> Float64[np.ndarray, " class"]:
        """Share of each digit 0 … 9 among all digits of the slide."""
        counts = np.bincount(self.classes, minlength=10)
        shares: Float64[np.ndarray, " class"] = counts / len(self.classes)
        return shares


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """What lies on one slide.

    Attributes:
        label: class of the digits in the tilted rectangle.
        distractor: class of those in the upright one; another.
        tilted, upright: the rectangles. Where they meet, digits belong to the tilted one.
        digits: all of them.
    """

    label: int
    distractor: int
    tilted: Rectangle
    upright: Rectangle
    digits: PlacedDigits


def draw_layout(settings: DigitSlideSettings, *, number: int, seed: int) -> Layout:
    """The layout of slide ``number`` of a seed; depends on no other slide.

    Of every ``len(settings.classes)`` slides in a row each class is the label of one. The quirks of
    the generator published with the paper are left out: its digits of 10 px on cells of 9, a
    distractor that is never the class before the label, labels balanced only by chance, no seed.
    """
    generator = np.random.default_rng([seed, _SLIDE, number])
    label = _dealt_label(settings, number=number, seed=seed)
    distractor = int(generator.choice([digit for digit in settings.classes if digit != label]))
    tilted, upright = _rectangles(settings, generator)
    digits = _placed(settings, generator, chances=None)
    rows, cols = (digits.cells + 0.5 + digits.moved_px / settings.cell_px).T
    digits.classes[upright.holds(rows, cols)] = distractor
    digits.classes[tilted.holds(rows, cols)] = label
    return Layout(
        label=label, distractor=distractor, tilted=tilted, upright=upright, digits=digits
    )  # fmt: skip


def draw_mixture(settings: DigitSlideSettings, *, number: int, seed: int) -> PlacedDigits:
    """Digits of slide ``number`` without rectangles, in shares of its own.

    The chances of the ``settings.classes`` are uniform over all mixtures (Dirichlet with all
    parameters 1).
    """
    generator = np.random.default_rng([seed, _MIXTURE, number])
    chances = generator.dirichlet(np.ones(len(settings.classes)))
    return _placed(settings, generator, chances=chances)


def _dealt_label(settings: DigitSlideSettings, *, number: int, seed: int) -> int:
    block, place = divmod(number, len(settings.classes))
    order = np.random.default_rng([seed, _BLOCK, block]).permutation(settings.classes)
    return int(order[place])


def _rectangles(
    settings: DigitSlideSettings, generator: np.random.Generator
) -> tuple[Rectangle, Rectangle]:
    """Tilted and upright, in opposite halves of the slide, all turned and mirrored by chance."""
    pair = [
        _in_left_half(float(generator.choice(angles)), settings, generator)
        for angles in ((45.0, 135.0), (0.0, 90.0))
    ]
    pair[1] = _mirrored(pair[1], settings.cells)
    for _ in range(generator.integers(4)):
        pair = [_quarter_turned(rectangle, settings.cells) for rectangle in pair]
    if generator.integers(2):
        pair = [_mirrored(rectangle, settings.cells) for rectangle in pair]
    return pair[0], pair[1]


def _in_left_half(
    angle: float, settings: DigitSlideSettings, generator: np.random.Generator
) -> Rectangle:
    """Somewhere in the left half; where too wide for it, at the left edge of the slide."""
    long = float(generator.uniform(*settings.long_cells))
    width, height = _spread(angle, long=long)
    right_most = max(width / 2, settings.cells / 2 - width / 2)
    return Rectangle(
        row=float(generator.uniform(height / 2, settings.cells - height / 2)),
        col=float(generator.uniform(width / 2, right_most)),
        long=long,
        angle=angle,
    )


def _spread(angle: float, *, long: float) -> tuple[float, float]:
    """Width and height of the upright box around a rectangle."""
    cos, sin = (abs(f(math.radians(angle))) for f in (math.cos, math.sin))
    return long * (cos + sin / 2), long * (sin + cos / 2)


def _mirrored(rectangle: Rectangle, cells: int) -> Rectangle:
    return Rectangle(
        row=rectangle.row, col=cells - rectangle.col, long=rectangle.long,
        angle=(180.0 - rectangle.angle) % 180.0,
    )  # fmt: skip


def _quarter_turned(rectangle: Rectangle, cells: int) -> Rectangle:
    return Rectangle(
        row=rectangle.col, col=cells - rectangle.row, long=rectangle.long,
        angle=(rectangle.angle + 90.0) % 180.0,
    )  # fmt: skip


def _placed(
    settings: DigitSlideSettings, generator: np.random.Generator, *,
    chances: Float64[np.ndarray, " class"] | None,
) -> PlacedDigits:  # fmt: skip
    """Digits in cells drawn by chance, of classes drawn by chance (of equal ones for None)."""
    taken = np.sort(generator.permutation(settings.cells**2)[: settings.n_digits])
    most = int(settings.jitter * settings.cell_px)
    return PlacedDigits(
        cells=np.stack(np.divmod(taken, settings.cells), axis=1),
        moved_px=generator.integers(-most, most + 1, (len(taken), 2)),
        classes=generator.choice(settings.classes, len(taken), p=chances),
        picks=generator.random(len(taken)),
    )
