"""``gigassl embed``: the main job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gigassl.cli import cluster_options as ray
from gigassl.cli import options as opt
from gigassl.cli.result import finish, finish_vectors

if TYPE_CHECKING:
    from gigassl.tiles.engine import TileEncoder
    from gigassl.vectors.ensemble import EnsembleSettings

SLIDE_ENCODER = "Slide encoder"
EXAMPLE = "Example: gigassl embed slides/ -o vectors.parquet --slide-mpp 0.5 --overviews seen/"


def embed_command(
    source: opt.SourceOrUrl,
    out: Annotated[str, typer.Option("--out", "-o", help="The Parquet file to write, or its URL.")],
    slide_encoder: Annotated[
        str,
        typer.Option(
            help="How a slide's tiles become one vector: mean, max, mean+std, or a file from "
            "`gigassl pretrain` or `gigassl import-model`.",
            rich_help_panel=SLIDE_ENCODER,
        ),
    ] = "mean",
    views: Annotated[
        int | None,
        typer.Option(
            help="A slide's vector is the mean of up to so many parts of it.", min=1,
            rich_help_panel=SLIDE_ENCODER, show_default="100",
        ),
    ] = None,
    tiles_per_view: Annotated[
        int | None,
        typer.Option(
            help="Tiles of a part.", min=1, rich_help_panel=SLIDE_ENCODER,
            show_default="as in training",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Decides the parts.", rich_help_panel=SLIDE_ENCODER, show_default="0"
        ),
    ] = None,
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
        str | None,
        typer.Option(help="Folder, or URL, to keep the bags in as well.", rich_help_panel=opt.RUN),
    ] = None,
    slide_dir: opt.SlideDir = None,
    coords_unit: opt.BagCoordsUnit = None,
    workers: opt.Workers = None,
    shard: opt.Shard = None,
    engine: ray.Engine = "local",
    address: ray.Address = None,
    actors: ray.Actors = None,
    gpus_per_actor: ray.GpusPerActor = None,
    cpus_per_actor: ray.CpusPerActor = None,
    decoders: ray.Decoders = None,
    retries: ray.Retries = None,
    storage_options: opt.StorageOptions = None,
    cache_dir: opt.CacheDir = None,
    cache_gb: opt.CacheGb = 50.0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Write nothing; open every slide, time three, and say what will fail and how "
            "many tiles, hours and bytes it takes.",
            rich_help_panel=opt.RUN,
        ),
    ] = False,
    expected: Annotated[
        Path | None,
        typer.Option(
            help="What --dry-run --json printed before: the log then ends with predicted against "
            "actual.",
            rich_help_panel=opt.RUN,
        ),
    ] = None,
    allow_collapsed: opt.AllowCollapsed = False,
    json: opt.Json = False,
) -> None:  # fmt: skip
    """Embed slides (or bags): one Parquet row a slide.

    A rerun embeds only what is missing or has changed. Slides that fail
    are listed in OUT.failures.csv, and the exit code is then 1, as it is
    with --dry-run where slides would fail.
    """
    from dataclasses import replace

    from gigassl.bags.prepare import TileSettings
    from gigassl.pipeline.embed import DEFAULT_ENCODER, EmbedSettings, embed
    from gigassl.pipeline.forecast import read_expected
    from gigassl.pipeline.jobs import RunOptions
    from gigassl.pipeline.preflight import estimate_embed
    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.slide_encoding import slide_model, wanted_tiles
    from gigassl.slides.cohort import is_bag, read_cohort
    from gigassl.tiles.encoders import load_encoder
    from gigassl.urls import place_of
    from gigassl.vectors.pooling import POOLINGS

    cluster = ray.cluster_engine(
        engine, device=device, address=address, actors=actors, gpus_per_actor=gpus_per_actor,
        cpus_per_actor=cpus_per_actor, decoders=decoders, retries=retries,
    )  # fmt: skip
    options = RunOptions(
        workers=workers, shard=opt.parse_shard(shard), slide_dir=slide_dir, masks=masks,
        keep_bags=keep_bags and place_of(keep_bags), overviews=overviews,
        bag_encoder=tile_encoder, coords_unit=coords_unit,
        stores=opt.store_settings(storage_options, cache_dir=cache_dir, cache_gb=cache_gb),
        engine=cluster, expected=read_expected(expected) if expected else None,
    )  # fmt: skip
    settings = EmbedSettings(
        tiles=TileSettings(default_mpp=slide_mpp),
        slide_encoder=slide_encoder if slide_encoder in POOLINGS else slide_model(slide_encoder),
        views=_views(views, tiles_per_view=tiles_per_view, seed=seed),
    )
    cohort = read_cohort(place_of(source), slide_dir=slide_dir, stores=options.stores)
    encoder: TileEncoder | str = DEFAULT_ENCODER
    if not (cohort.slides and is_bag(cohort.slides[0].path)):
        wanted = wanted_tiles(
            settings.slide_encoder, encoder=tile_encoder, mpp=target_mpp, tile_px=tile_px,
            preset=preset,
        )  # fmt: skip
        encoder = load_encoder(
            wanted.encoder or DEFAULT_ENCODER, backend=backend, precision=precision,
            device="cpu" if cluster and not dry_run else device, batch_size=batch_size,
        )  # fmt: skip
        grid = opt.grid_settings(
            encoder, preset=preset, tile_px=wanted.tile_px, target_mpp=wanted.mpp,
            min_tissue=min_tissue, overlap_px=overlap_px, allow_upsampling=allow_upsampling,
        )  # fmt: skip
        tiles = opt.tile_settings(grid, tissue=tissue, slide_mpp=slide_mpp, scaled_dct=scaled_dct)
        settings = replace(settings, tiles=tiles)
    if dry_run:
        with Reporter(what="slides opened") as progress:
            estimate = estimate_embed(
                cohort, place_of(out), encoder=encoder, settings=settings, options=options,
                progress=progress,
            )  # fmt: skip
        finish(estimate, as_json=json)
    with Reporter() as progress:
        result = embed(
            cohort, place_of(out), encoder=encoder, settings=settings, options=options,
            progress=progress,
        )  # fmt: skip
    finish_vectors(result, as_json=json, allow_collapsed=allow_collapsed)


def _views(
    views: int | None, *, tiles_per_view: int | None, seed: int | None
) -> "EnsembleSettings | None":
    """How a slide encoder looks at a slide; None where the user said nothing."""
    from gigassl.vectors.ensemble import EnsembleSettings

    said = {"views": views, "tiles_per_view": tiles_per_view, "seed": seed}
    given = {name: value for name, value in said.items() if value is not None}
    return EnsembleSettings(**given) if given else None
