"""A needle curve: networks of several kinds over sizes of the needle and numbers of images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gigassl.errors import SettingsError
from gigassl.evaluate.needles.network import NeedleNetworkSettings
from gigassl.evaluate.needles.training import (
    FittedNeedles,
    NeedleScore,
    NeedleTrainingSettings,
    fit_needles,
    score_needles,
)
from gigassl.slides.digits import Digits
from gigassl.slides.needles import NEEDLE_PRESETS, NeedleSettings, draw_needles


@dataclass(frozen=True, kw_only=True)
class NeedleVariant:
    """One kind of network, trained in one way.

    Attributes:
        name: in tables and figures.
        network: the network.
    """

    name: str
    network: NeedleNetworkSettings = field(default_factory=NeedleNetworkSettings)


@dataclass(frozen=True, kw_only=True)
class NeedleCurveSettings:
    """A grid of trainings: each variant on each canvas with each number of images and seed.

    Attributes:
        variants: networks to compare.
        sweep: what the images of each canvas are like.
        train_sizes: numbers of training images; each set holds the smaller ones.
        validation, test: images that choose the weights, and that are scored.
        seeds: of images, first weights and order.
        training: how each network is trained; its seed is one of ``seeds``.
    """

    variants: tuple[NeedleVariant, ...] = (NeedleVariant(name="max, 13 px"),)
    sweep: tuple[NeedleSettings, ...] = NEEDLE_PRESETS["small"][:3]
    train_sizes: tuple[int, ...] = (400, 1600)
    validation: int = 400
    test: int = 800
    seeds: tuple[int, ...] = (0, 1, 2)
    training: NeedleTrainingSettings = field(default_factory=NeedleTrainingSettings)

    def __post_init__(self) -> None:
        for what, values in (
            ("variants", [variant.name for variant in self.variants]),
            ("canvases", [each.canvas_px for each in self.sweep]),
            ("train sizes", self.train_sizes),
            ("seeds", self.seeds),
        ):
            if not values or len(set(values)) < len(values):
                raise SettingsError(f"{what}: one or more are needed, each once; got {values}")
        if min(*self.train_sizes, self.validation, self.test) < 2:
            raise SettingsError("train sizes, validation and test need two images or more")
        if self.test * min(each.positive for each in self.sweep) < 2:
            raise SettingsError(
                f"{self.test} test images hold no two needles; ask for more, or for a larger share"
            )

    def cells(self) -> Iterator["NeedleCell"]:
        """All trainings: large needles first, so that a curve begins where it is known to work."""
        for images in sorted(self.sweep, key=lambda each: each.canvas_px):
            for size in sorted(self.train_sizes):
                for seed in self.seeds:
                    for variant in self.variants:
                        yield NeedleCell(
                            variant=variant, images=images, train=size,
                            validation=self.validation, test=self.test,
                            first_held_out=max(self.train_sizes),
                            training=replace(self.training, seed=seed),
                        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NeedleCell:
    """One training of the grid.

    Attributes:
        variant: the network.
        images: what the images are like.
        train, validation, test: how many of each.
        first_held_out: number of the first validation image, the same for all training sizes.
        training: how it is trained, with the seed of the cell.
    """

    variant: NeedleVariant
    images: NeedleSettings
    train: int
    validation: int
    test: int
    first_held_out: int
    training: NeedleTrainingSettings

    @property
    def title(self) -> str:
        """Short, for progress and logs."""
        return (
            f"{self.variant.name}, {self.images.canvas_px} px, n = {self.train}, "
            f"seed {self.training.seed}"
        )


@dataclass(frozen=True, kw_only=True)
class NeedlePoint:
    """What came of one cell.

    Attributes:
        variant, canvas_px, o2i, train_size, seed: which cell.
        field_px: receptive field of the network.
        train, validation, test: scores of the best weights.
        best_update: the check that was best on the validation images.
        last_train_accuracy: at the end of the training: whether it could be learned at all.
    """

    variant: str
    canvas_px: int
    o2i: float
    train_size: int
    seed: int
    field_px: int
    train: NeedleScore
    validation: NeedleScore
    test: NeedleScore
    best_update: int
    last_train_accuracy: float


def run_cell(cell: NeedleCell, digits: Mapping[str, Digits]) -> tuple[NeedlePoint, FittedNeedles]:
    """Draws the images of a cell, trains its network, scores it.

    Args:
        cell: what to do.
        digits: for the parts train, validation and test.
    """
    first, seed = cell.first_held_out, cell.training.seed
    train, validation, test = (
        draw_needles(cell.images, digits[part], n=n, seed=seed, first=number)
        for part, n, number in (
            ("train", cell.train, 0),
            ("validation", cell.validation, first),
            ("test", cell.test, first + cell.validation),
        )
    )
    fitted = fit_needles(train, validation, network=cell.variant.network, settings=cell.training)
    point = NeedlePoint(
        variant=cell.variant.name,
        canvas_px=cell.images.canvas_px,
        o2i=cell.images.o2i,
        train_size=cell.train,
        seed=seed,
        field_px=cell.variant.network.field_px,
        train=fitted.best.train,
        validation=fitted.best.validation,
        test=score_needles(fitted.network, test),
        best_update=fitted.best.update,
        last_train_accuracy=fitted.curve[-1].train.accuracy,
    )
    return point, fitted


def median_point(points: Sequence[NeedlePoint]) -> NeedlePoint:
    """The point in the middle by test accuracy, of those of several seeds."""
    ordered = sorted(points, key=lambda point: point.test.accuracy)
    return ordered[(len(ordered) - 1) // 2]
