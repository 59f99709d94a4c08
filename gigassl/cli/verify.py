"""``gigassl verify``: rows of a table, made again from the slides."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli import options as opt
from gigassl.cli.result import finish

EXAMPLE = "Example: gigassl verify vectors.parquet --slides slides/ --sample 20"


def verify_command(
    vectors: Annotated[Path, typer.Argument(help="Table of slide vectors.")],
    slides: Annotated[
        str,
        typer.Option(help="Folder, file or CSV of the slides, or of bags of them; or its URL."),
    ],
    sample: Annotated[int, typer.Option(help="Rows to make again, at random.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Decides which rows.", min=0)] = 0,
    tile_encoder: Annotated[
        str | None,
        typer.Option(
            help="Where the weights of the tile encoder are, if the table names only a file.",
            rich_help_panel=opt.ENCODER,
            show_default="what the table says",
        ),
    ] = None,
    slide_encoder: Annotated[
        str | None,
        typer.Option(
            help="File of the slide encoder, if the table was made by one.",
            rich_help_panel=opt.ENCODER,
        ),
    ] = None,
    device: opt.Device = "auto",
    masks: opt.Masks = None,
    slide_dir: opt.SlideDir = None,
    coords_unit: opt.BagCoordsUnit = None,
    workers: opt.Workers = None,
    storage_options: opt.StorageOptions = None,
    cache_dir: opt.CacheDir = None,
    cache_gb: opt.CacheGb = 50.0,
    json: opt.Json = False,
) -> None:
    """Verify a table: embed a random sample of its slides again and compare.

    Everything else is as the table's own provenance says. Exit code 0: every
    sampled row has a cosine of at least 0.9999 with the one made again; 1: rows
    differ, slides are missing, or a setting changed, which the output names.
    """
    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.verify import verify
    from gigassl.pipeline.verify_settings import VerifyOptions
    from gigassl.urls import place_of

    options = VerifyOptions(
        sample=sample, seed=seed, device=device, workers=workers, slide_dir=slide_dir, masks=masks,
        coords_unit=coords_unit,
        stores=opt.store_settings(storage_options, cache_dir=cache_dir, cache_gb=cache_gb),
    )  # fmt: skip
    with Reporter() as progress:
        result = verify(
            vectors, place_of(slides), encoder=tile_encoder, slide_encoder=slide_encoder,
            options=options, progress=progress,
        )  # fmt: skip
    finish(result, as_json=json)
