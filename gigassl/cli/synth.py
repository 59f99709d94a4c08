"""``gigassl synth``: synthetic images whose truth is known, as files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gigassl.cli.options import Json
from gigassl.cli.result import finish
from gigassl.errors import SettingsError

EXAMPLE = "Example: gigassl synth nic -o rectangles/   or: gigassl synth needles -o needles/"
NIC_EXAMPLE = "Example: gigassl synth nic --preset easy --train 4000 -o rectangles/"
NEEDLES_EXAMPLE = "Example: gigassl synth needles --canvas 16,32,64 --train 1600 -o needles/"

LOOK, SIZE, RUN = "Images", "Number", "Run"

synth_app = typer.Typer(
    no_args_is_help=True, epilog=EXAMPLE, help="Write synthetic images whose truth is known."
)

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the set.")]
DigitFolder = Annotated[
    Path | None,
    typer.Option(help="Folder with MNIST's IDX files, or with folders 0 … 9 of images.",
                 rich_help_panel=LOOK, show_default="scikit-learn's 1,797 digits of 8 px"),
]  # fmt: skip
DigitPx = Annotated[
    int | None,
    typer.Option(help="Side of a digit, px.", rich_help_panel=LOOK, show_default="by preset"),
]
Seed = Annotated[int | None, typer.Option(help="Decides everything.", rich_help_panel=RUN,
                                          show_default="by kind")]  # fmt: skip
Workers = Annotated[
    int, typer.Option(help="Threads; do not change results.", min=1, rich_help_panel=RUN)
]


@synth_app.command("nic", epilog=NIC_EXAMPLE)
def synth_nic_command(
    out: Out,
    preset: Annotated[
        Literal["standard", "easy", "paper"],
        typer.Option(help="32 × 32 cells of 8 px and 4 classes, two ways; or the paper's 3,600 px "
                     "with 25,920 digits of 10 classes, and its numbers of slides.",
                     rich_help_panel=LOOK),
    ] = "standard",
    cells: Annotated[
        int | None, typer.Option(help="Cells along a side.", rich_help_panel=LOOK,
                                 show_default="by preset")
    ] = None,
    digit_px: DigitPx = None,
    fill: Annotated[
        float | None, typer.Option(help="Share of the cells that hold a digit.",
                                   rich_help_panel=LOOK, show_default="by preset")
    ] = None,
    long_side: Annotated[
        str | None, typer.Option(help="FROM,TO: long sides of the rectangles, in cells.",
                                 rich_help_panel=LOOK, show_default="by preset")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Digits in use, comma-separated.", rich_help_panel=LOOK,
                                 show_default="by preset")
    ] = None,
    jitter: Annotated[
        float | None, typer.Option(help="Digits move by up to this share of a cell.",
                                   rich_help_panel=LOOK, show_default="by preset")
    ] = None,
    digits: DigitFolder = None,
    encoder: Annotated[
        int | None, typer.Option(help="Slides to train encoders on.", rich_help_panel=SIZE,
                                 show_default="100; paper: 2500")
    ] = None,
    train: Annotated[
        int | None, typer.Option(help="Slides to train the slide stage on.", rich_help_panel=SIZE,
                                 show_default="1500; paper: 22500")
    ] = None,
    test: Annotated[
        int | None, typer.Option(help="Slides of other digits.", rich_help_panel=SIZE,
                                 show_default="600; paper: 25000")
    ] = None,
    seed: Seed = None,
    workers: Workers = 2,
    json: Json = False,
) -> None:  # fmt: skip
    """Slides of digits: those in a tilted rectangle are the label.

    OUT/labels.csv is a cohort: paths, parts, labels, masks, shares of
    each digit (a target for regression). The same command again
    finishes what was interrupted.
    """
    from dataclasses import replace

    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.synth_nic import SynthNicSettings, synth_nic
    from gigassl.slides.digit_layout import DIGIT_SLIDE_PRESETS

    said = {
        "cells": cells, "cell_px": digit_px, "fill": fill, "jitter": jitter,
        "long_cells": _pair(long_side), "classes": _whole_numbers(classes, "--classes"),
    }  # fmt: skip
    slides = replace(DIGIT_SLIDE_PRESETS[preset], **_given(said))
    paper = {"encoder": 2500, "train": 22_500, "test": 25_000} if preset == "paper" else {}
    numbers = {"encoder": encoder, "train": train, "test": test, "seed": seed}
    settings = SynthNicSettings(slides=slides, **{**paper, **_given(numbers)})
    with Reporter(what="images") as progress:
        result = synth_nic(
            out, settings=settings, digits=digits, workers=workers, progress=progress
        )
    finish(result, as_json=json)


@synth_app.command("needles", epilog=NEEDLES_EXAMPLE)
def synth_needles_command(
    out: Out,
    preset: Annotated[
        Literal["small", "paper"],
        typer.Option(help="Digits of 8 px on 16 to 128 px; or the paper's 28 px (give MNIST with "
                     "--digits) on 64 to 6,144 px, and its numbers of images.",
                     rich_help_panel=LOOK),
    ] = "small",
    canvas: Annotated[
        str | None, typer.Option(help="Sides of the images, px, comma-separated.",
                                 rich_help_panel=LOOK, show_default="by preset")
    ] = None,
    digit_px: DigitPx = None,
    needle: Annotated[
        int, typer.Option(help="The digit to be found.", min=0, max=9, rich_help_panel=LOOK)
    ] = 3,
    clutter: Annotated[
        int | None, typer.Option(help="Other digits on an image.", rich_help_panel=LOOK,
                                 show_default="30 % of its area")
    ] = None,
    positive: Annotated[
        float, typer.Option(help="Share of the images with a needle.", rich_help_panel=LOOK)
    ] = 0.5,
    digits: DigitFolder = None,
    train: Annotated[
        int | None, typer.Option(help="Training images of each size.", rich_help_panel=SIZE,
                                 show_default="1600; paper: 11276")
    ] = None,
    validation: Annotated[
        int | None, typer.Option(help="Validation images of each size.", rich_help_panel=SIZE,
                                 show_default="400; paper: 1972")
    ] = None,
    test: Annotated[
        int | None, typer.Option(help="Test images of each size.", rich_help_panel=SIZE,
                                 show_default="800; paper: 4040")
    ] = None,
    seed: Seed = None,
    workers: Workers = 2,
    json: Json = False,
) -> None:  # fmt: skip
    """Images with and without one small digit among many others.

    A folder a canvas, part and class, masks of the needles, and
    OUT/labels.csv. The same command again finishes what was interrupted.
    """
    from dataclasses import replace

    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.synth_needles import SynthNeedlesSettings, synth_needles
    from gigassl.slides.needles import NEEDLE_PRESETS

    first = NEEDLE_PRESETS[preset][0]
    wanted = _whole_numbers(canvas, "--canvas") or tuple(
        each.canvas_px for each in NEEDLE_PRESETS[preset]
    )
    said = {"digit_px": digit_px, "needle": needle, "clutter": clutter, "positive": positive}
    sweep = tuple(replace(first, canvas_px=side, **_given(said)) for side in wanted)
    paper = {"train": 11_276, "validation": 1972, "test": 4040} if preset == "paper" else {}
    numbers = {"train": train, "validation": validation, "test": test, "seed": seed}
    settings = SynthNeedlesSettings(sweep=sweep, **{**paper, **_given(numbers)})
    with Reporter(what="images") as progress:
        result = synth_needles(
            out, settings=settings, digits=digits, workers=workers, progress=progress
        )
    finish(result, as_json=json)


def _given(said: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in said.items() if value is not None}


def _whole_numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(
            f"{option} wants whole numbers separated by commas; got '{text}'"
        ) from error


def _pair(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        shortest, longest = (float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"--long-side wants FROM,TO, such as 10,17; got '{text}'") from error
    return shortest, longest
