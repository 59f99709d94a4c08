"""``gigassl probe-tiles``: which tile encoder to choose, on labelled images."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli import task_options as task
from gigassl.cli.options import ENCODER, RUN, Backend, BatchSize, Device, Json, Precision
from gigassl.cli.result import finish

EXAMPLE = (
    "Example: gigassl probe-tiles patches/ --encoder efficientnet-lite0 "
    "--encoder tile-encoder.safetensors --encoder random:resnet18 -o probed/"
)

IMAGES = "Images"


def probe_tiles_command(
    images: Annotated[
        Path, typer.Argument(help="Folder of class folders, or a CSV beside its images.")
    ],
    encoder: Annotated[
        list[str],
        typer.Option(
            help="Name of `gigassl doctor --encoders`, timm:NAME, hf-hub:REPO, random:NAME or a "
            "checkpoint file; give it again for more. The first is what others are compared with.",
            rich_help_panel=ENCODER,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for tables, figure and predictions.")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV: path (or file, image, name), label, group.",
                     rich_help_panel=IMAGES, show_default="the folder's own, or class folders"),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Its column of classes.", rich_help_panel=IMAGES,
                                 show_default="label, class or target")
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(help="Its column of groups (patients), never on both sides of a split.",
                     rich_help_panel=IMAGES, show_default="group, patient or the like"),
    ] = None,
    group_pattern: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Instead: what it finds in a file's path is the group.",
                     rich_help_panel=IMAGES),
    ] = None,
    image_mpp: Annotated[
        float | None,
        typer.Option(help="µm/px of the images: cut them into tiles at each encoder's µm/px.",
                     rich_help_panel=IMAGES, show_default="an image is one tile"),
    ] = None,
    folds: task.Folds = 5,
    repeats: task.Repeats = 1,
    seed: task.Seed = 0,
    neighbours: Annotated[
        int, typer.Option(help="Of the kNN probe.", min=1, rich_help_panel=task.SPLITS)
    ] = 20,
    controls: Annotated[
        bool,
        typer.Option("--controls/--no-controls", help="Also random weights, and image colour.",
                     rich_help_panel=task.SPLITS),
    ] = True,
    backend: Backend = "torch",
    device: Device = "auto",
    precision: Precision = None,
    batch_size: BatchSize = 16,
    workers: Annotated[
        int, typer.Option(help="Reader threads; do not change results.", min=1,
                          rich_help_panel=RUN)
    ] = 2,
    json: Json = False,
) -> None:  # fmt: skip
    """Compare tile encoders on labelled images: accuracy, speed, size.

    A linear and a kNN probe of each, on the same folds, beside the same
    networks with random weights and the colour of the images. Features
    are kept in OUT, so that a further encoder costs only its own time.
    """
    from gigassl.evaluate.splits import SplitSettings
    from gigassl.pipeline.probe_tiles import probe_tiles
    from gigassl.pipeline.probe_tiles_options import ProbeTilesOptions
    from gigassl.pipeline.progress import Reporter

    options = ProbeTilesOptions(
        labels=labels, label_column=label_column, group_column=group_column,
        group_pattern=group_pattern, image_mpp=image_mpp,
        split=SplitSettings(folds=folds, repeats=repeats, seed=seed), neighbours=neighbours,
        controls=controls, backend=backend, device=device, precision=precision,
        batch_size=batch_size, workers=workers,
    )  # fmt: skip
    with Reporter(what="images") as reporter:
        result = probe_tiles(images, out, encoders=encoder, options=options, progress=reporter)
    finish(result, as_json=json)
