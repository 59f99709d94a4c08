"""``synth nic``: the slides of the NIC paper's synthetic task, as files of the normal pipeline."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from gigassl.errors import SettingsError
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.synth import TABLE, Row, SynthResult, claim_set, write_set
from gigassl.slides.digit_layout import DigitSlideSettings, Layout, draw_layout
from gigassl.slides.digit_slides import paint_digits
from gigassl.slides.digits import Digits, DigitSets, read_digits
from gigassl.slides.lossless_files import save_grey_slide, save_mask_png

MPP = 0.5
"""What the files say of their resolution, µm/px: that at which tiles are read by default."""

_ENCODER_TRAIN = 0.7


@dataclass(frozen=True, kw_only=True)
class SynthNicSettings:
    """A set of synthetic slides.

    Attributes:
        slides: what they are like.
        encoder: slides to train encoders on; of these 30 % are for validation. The paper's 2,500.
        train: slides for the slide stage, painted with the same digits. The paper's 22,500.
        test: slides painted with other digits. The paper's 25,000.
        seed: decides everything else.
    """

    slides: DigitSlideSettings = field(default_factory=DigitSlideSettings)
    encoder: int = 100
    train: int = 1500
    test: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.encoder, self.train, self.test) < 0 or not self.n_slides:
            raise SettingsError(
                f"a set needs at least one slide; got {self.encoder} + {self.train} + {self.test}"
            )

    @property
    def n_slides(self) -> int:
        """Slides of all parts."""
        return self.encoder + self.train + self.test

    def part(self, number: int) -> str:
        """The part that a slide belongs to; numbers run through all parts."""
        if number < round(self.encoder * _ENCODER_TRAIN):
            return "encoder-train"
        if number < self.encoder:
            return "encoder-validation"
        return "train" if number < self.encoder + self.train else "test"


def synth_nic(
    out: Path, *, settings: SynthNicSettings | None = None, digits: Path | None = None,
    workers: int = 2, progress: Progress | None = None,
) -> SynthResult:  # fmt: skip
    """Writes slides, masks of the tilted rectangles and ``labels.csv``, which is also a cohort.

    Slides are grey TIFF files of 0.5 µm/px without loss. Told the side of a cell as that of a tile,
    with ``--target-mpp 0.5 --tissue none``, every command makes one tile of each cell. Same
    settings and digits, same bytes; a set that was begun is finished.

    Args:
        out: folder of the set.
        settings: what to write.
        digits: folder of digits as of ``read_digits``; None for those of scikit-learn.
        workers: threads.
        progress: told of each slide.

    Raises:
        SettingsError: a folder that holds another set, or digits that cannot be read.
        MachineError: the folder cannot be written to.
    """
    settings = settings or SynthNicSettings()
    sets = read_digits(digits)
    claim_set(out, settings, digits=sets)
    for folder in ("slides", "masks"):
        (out / folder).mkdir(exist_ok=True)
    write = partial(_write_slide, out, settings, sized=_sized(sets, settings))
    use = (
        f"gigassl encode {out / TABLE} --tile-px {settings.slides.cell_px} --target-mpp {MPP} "
        "--tissue none --tile-encoder ENCODER -o bags/"
    )
    return write_set(
        out, range(settings.n_slides), write, use=use, workers=workers, progress=progress
    )


def _sized(sets: DigitSets, settings: SynthNicSettings) -> DigitSets:
    slides = settings.slides
    train, test = (
        digits.of_side(slides.cell_px, threshold=slides.threshold)
        for digits in (sets.train, sets.test)
    )
    return DigitSets(train=train, test=test, source=sets.source)


def _write_slide(
    out: Path, settings: SynthNicSettings, number: int, *, sized: DigitSets
) -> tuple[Row, bool]:
    """Writes slide and mask unless both are there; the row, and whether they were written."""
    layout = draw_layout(settings.slides, number=number, seed=settings.seed)
    row = _row(settings, layout, number=number)
    slide, mask = out / str(row["path"]), out / str(row["mask"])
    if slide.is_file() and mask.is_file():
        return row, False
    digits: Digits = sized.test if row["part"] == "test" else sized.train
    save_grey_slide(paint_digits(settings.slides, digits, layout.digits), slide, mpp=MPP)
    side = settings.slides.side_px
    save_mask_png(layout.tilted.mask(side, cells=settings.slides.cells), mask)
    return row, True


def _row(settings: SynthNicSettings, layout: Layout, *, number: int) -> Row:
    """What ``labels.csv`` says of a slide; places and sides in cells."""
    name = f"nic-{number:06d}"
    shares = np.round(layout.digits.shares, 6).tolist()
    rectangles = {
        f"{which}_{what}": round(getattr(one, what), 4)
        for which, one in (("tilted", layout.tilted), ("upright", layout.upright))
        for what in ("long", "angle", "row", "col")
    }
    return {
        "slide_id": name,
        "path": f"slides/{name}.tiff",
        "mpp": MPP,
        "part": settings.part(number),
        # words, because numbers would be taken for a quantity
        "label": f"digit-{layout.label}",
        "distractor": f"digit-{layout.distractor}",
        "mask": f"masks/{name}.png",
        **rectangles,
        **{f"share_{digit}": share for digit, share in enumerate(shares)},
    }
