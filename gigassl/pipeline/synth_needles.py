"""``synth needles``: images with and without a needle over a sweep of sizes, as class folders."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from gigassl.errors import SettingsError
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.synth import Row, SynthResult, claim_set, write_set
from gigassl.slides.digits import Digits, DigitSets, read_digits
from gigassl.slides.lossless_files import save_grey_png, save_mask_png
from gigassl.slides.needles import NEEDLE_PRESETS, NeedleSettings, draw_needles

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
CLASSES = ("none", "needle")

# MNIST's 5,000 of 60,000 would leave ten needles of scikit-learn's digits
_VALIDATION_SHARE = 1 / 6


@dataclass(frozen=True, kw_only=True)
class SynthNeedlesSettings:
    """A sweep of needle images. The published sizes are 11,276, 1,972 and 4,040.

    Attributes:
        sweep: what the images of each size are like.
        train, validation, test: images of each size; no digit is used in two of the parts.
        seed: decides everything else.
    """

    sweep: tuple[NeedleSettings, ...] = NEEDLE_PRESETS["small"]
    train: int = 1600
    validation: int = 400
    test: int = 800
    seed: int = 1234

    def __post_init__(self) -> None:
        if min(self.train, self.validation, self.test) < 2:
            raise SettingsError(
                "each part needs two images or more; got "
                f"{self.train}, {self.validation} and {self.test}"
            )
        sides = [each.canvas_px for each in self.sweep]
        if not sides or len(set(sides)) < len(sides):
            raise SettingsError(f"a sweep needs canvases, each once; got {sides}")

    def first(self, part: Part) -> int:
        """Number of the first image of a part; numbers run through all parts."""
        return {"train": 0, "validation": self.train, "test": self.train + self.validation}[part]

    def n(self, part: Part) -> int:
        """Images of a part."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[part]


def needle_digits(sets: DigitSets) -> dict[str, Digits]:
    """Digits for each part: a sixth of those for training is kept for validation."""
    order = np.random.default_rng(0).permutation(len(sets.train))
    n_validation = round(len(sets.train) * _VALIDATION_SHARE)
    return {
        "train": sets.train.picked(np.sort(order[n_validation:])),
        "validation": sets.train.picked(np.sort(order[:n_validation])),
        "test": sets.test,
    }


def synth_needles(
    out: Path, *, settings: SynthNeedlesSettings | None = None, digits: Path | None = None,
    workers: int = 2, progress: Progress | None = None,
) -> SynthResult:  # fmt: skip
    """Writes PNG images in a folder a class and part for each canvas, masks, and ``labels.csv``.

    Same settings and digits, same bytes; a set that was begun is finished.

    Args:
        out: folder of the set.
        settings: what to write.
        digits: folder of digits as of ``read_digits``; None for those of scikit-learn.
        workers: threads.
        progress: told of each image.

    Raises:
        SettingsError: a folder that holds another set, or digits that cannot be read.
        MachineError: the folder cannot be written to.
    """
    settings = settings or SynthNeedlesSettings()
    sets = read_digits(digits)
    claim_set(out, settings, digits=sets)
    parts = needle_digits(sets)
    items = [
        (k, part, number)
        for k in range(len(settings.sweep))
        for part in PARTS
        for number in range(settings.first(part), settings.first(part) + settings.n(part))
    ]
    for k in range(len(settings.sweep)):
        _make_folders(out / _canvas(settings.sweep[k]))
    use = f"gigassl probe-tiles {out / _canvas(settings.sweep[0]) / 'test'} --encoder ENCODER -o …"
    write = partial(_write_image, out, settings, digits=parts)
    return write_set(out, items, write, use=use, workers=workers, progress=progress)


def _canvas(settings: NeedleSettings) -> str:
    return f"canvas-{settings.canvas_px:04d}"


def _make_folders(folder: Path) -> None:
    for part in PARTS:
        for name in CLASSES:
            (folder / part / name).mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)


def _write_image(
    out: Path, settings: SynthNeedlesSettings, item: tuple[int, Part, int], *,
    digits: dict[str, Digits],
) -> tuple[Row, bool]:  # fmt: skip
    """Writes image and mask unless they are there; the row, and whether they were written."""
    k, part, number = item
    kind = settings.sweep[k]
    drawn = draw_needles(kind, digits[part], n=1, seed=settings.seed, first=number)
    label, (row, col) = int(drawn.labels[0]), drawn.corners[0].tolist()
    name = f"{number:06d}.png"
    image = f"{_canvas(kind)}/{part}/{CLASSES[label]}/{name}"
    mask = f"{_canvas(kind)}/masks/{name}" if label else ""
    said: Row = {
        "image": image, "canvas_px": kind.canvas_px, "o2i": kind.o2i, "part": part,
        "label": CLASSES[label], "digits": kind.n_digits, "needle_row": row, "needle_col": col,
        "mask": mask,
    }  # fmt: skip
    if (out / image).is_file() and (not mask or (out / mask).is_file()):
        return said, False
    if mask:
        save_mask_png(drawn.masks[0], out / mask)
    save_grey_png(drawn.images[0], out / image)
    return said, True
