"""``gigassl embed``: the main job."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from gigassl.cli import options as opt
from gigassl.cli.result import finish

EXAMPLE = "Example: gigassl embed slides/ -o vectors.parquet --slide-mpp 0.5 --overviews seen/"


def embed_command(
    source: opt.Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="The Parquet file to write.")],
    slide_encoder: Annotated[
        Literal["mean", "max", "mean+std"],
        typer.Option(help="How a slide's tiles become one vector.", rich_help_panel=opt.ENCODER),
    ] = "mean",
    tile_encoder: opt.TileEncoderName = None,
    backend: opt.Backend = "torch",
    device: opt.Device = "auto",
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = 16,
    preset: opt.Preset = None,
    tile_px: opt.TilePx = None,
    target_mpp: opt.TargetMpp = None,
    overlap_px: opt.OverlapPx = 0,
    min_tissue: opt.MinTissue = None,
    slide_mpp: opt.SlideMpp = None,
    allow_upsampling: opt.AllowUpsampling = False,
    tissue: opt.Tissue = "hne",
    masks: opt.Masks = None,
    scaled_dct: opt.ScaledDct = False,
    overviews: opt.Overviews = None,
    keep_bags: Annotated[
        Path | None,
        typer.Option(help="Folder to keep the bags in as well.", rich_help_panel=opt.RUN),
    ] = None,
    slide_dir: opt.SlideDir = None,
    coords_unit: Annotated[
        Literal["um", "px"] | None,
        typer.Option(help="Unit of bag coordinates that have none.", rich_help_panel=opt.RUN),
    ] = None,
    workers: opt.Workers = None,
    shard: opt.Shard = None,
    json: opt.Json = False,
) -> None:
    """Embed slides (or bags): one Parquet row a slide.

    A rerun embeds only what is missing or has changed. Slides that fail
    are listed in OUT.failures.csv, and the exit code is then 1.
    """
    from gigassl.bags.prepare import TileSettings
    from gigassl.pipeline.embed import DEFAULT_ENCODER, EmbedSettings, embed
    from gigassl.pipeline.jobs import RunOptions
    from gigassl.pipeline.progress import Reporter
    from gigassl.slides.cohort import is_bag, read_cohort
    from gigassl.tiles.encoders import load_encoder

    options = RunOptions(
        workers=workers, shard=opt.parse_shard(shard), slide_dir=slide_dir, masks=masks,
        keep_bags=keep_bags, overviews=overviews, bag_encoder=tile_encoder, coords_unit=coords_unit,
    )  # fmt: skip
    cohort = read_cohort(source, slide_dir=slide_dir)
    name = tile_encoder or DEFAULT_ENCODER
    if cohort.slides and is_bag(cohort.slides[0].path):
        tiles = TileSettings(default_mpp=slide_mpp)
        settings = EmbedSettings(tiles=tiles, slide_encoder=slide_encoder)
        with Reporter() as progress:
            result = embed(cohort, out, settings=settings, options=options, progress=progress)
        finish(result, as_json=json)
    encoder = load_encoder(
        name, backend=backend, device=device, precision=precision, batch_size=batch_size
    )
    grid = opt.grid_settings(
        encoder, preset=preset, tile_px=tile_px, target_mpp=target_mpp, min_tissue=min_tissue,
        overlap_px=overlap_px, allow_upsampling=allow_upsampling,
    )  # fmt: skip
    tiles = opt.tile_settings(grid, tissue=tissue, slide_mpp=slide_mpp, scaled_dct=scaled_dct)
    with Reporter() as progress:
        result = embed(
            cohort, out, encoder=encoder, options=options, progress=progress,
            settings=EmbedSettings(tiles=tiles, slide_encoder=slide_encoder),
        )  # fmt: skip
    finish(result, as_json=json)
