"""``gigassl encode``: slides into bags, or into a bank of augmented bags."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gigassl.cli import cluster_options as ray
from gigassl.cli import options as opt
from gigassl.cli.result import finish
from gigassl.errors import SettingsError

if TYPE_CHECKING:
    from gigassl.bags.bank_draws import DrawSettings

BANK = "Bank"
EXAMPLE = "Example: gigassl encode slides/ -o bank/ --augmentations 50 --tiles 256 --target-mpp 1.0"


def encode_command(
    source: opt.SourceOrUrl,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder: one .h5 a slide, or the bank.")
    ],
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
    slide_dir: opt.SlideDir = None,
    workers: opt.Workers = None,
    shard: opt.Shard = None,
    engine: ray.Engine = "local",
    address: ray.Address = None,
    actors: ray.Actors = None,
    gpus_per_actor: ray.GpusPerActor = None,
    cpus_per_actor: ray.CpusPerActor = None,
    decoders: ray.Decoders = None,
    retries: ray.Retries = None,
    variants: Annotated[
        bool,
        typer.Option(
            "--variants",
            help="Also encode every tile turned and mirrored, 8 variants in all: for nic-cnn.",
            rich_help_panel=opt.TILES,
        ),
    ] = False,
    augmentations: Annotated[
        int | None,
        typer.Option(
            help="Make a bank with so many augmented batches a slide (published: 50).", min=1,
            rich_help_panel=BANK,
        ),
    ] = None,
    tiles: Annotated[
        int | None,
        typer.Option(help="Tiles a batch.", min=1, rich_help_panel=BANK, show_default="256"),
    ] = None,
    draw: Annotated[
        Literal["scatter", "window"] | None,
        typer.Option(
            help="Tiles from anywhere, or those around one tile (for encoders that see "
            "neighbourhoods).", rich_help_panel=BANK, show_default="scatter",
        ),
    ] = None,
    stain_jitter: Annotated[
        float | None,
        typer.Option(help="Also vary H&E stains, 0 to 0.9.", rich_help_panel=BANK),
    ] = None,
    turn_tiles: Annotated[
        bool, typer.Option("--turn-tiles", help="Also mirror and turn.", rich_help_panel=BANK)
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(help="Decides all draws.", rich_help_panel=BANK, show_default="0"),
    ] = None,
    reduce: Annotated[
        str | None,
        typer.Option(
            help="Store fewer columns: pca:N, fitted on a sample of the cohort, or the "
            "reduction.safetensors of another bank.", rich_help_panel=BANK,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what a bank needs.", rich_help_panel=BANK),
    ] = False,
    storage_options: opt.StorageOptions = None,
    cache_dir: opt.CacheDir = None,
    cache_gb: opt.CacheGb = 50.0,
    json: opt.Json = False,
) -> None:  # fmt: skip
    """Encode slides into bags: one .h5 a slide with tile features and coordinates.

    The layout is TRIDENT's, which CLAM, TRIDENT and torchmil users can read.
    With --variants: compressed slides in eight turned variants, for `gigassl mil --model nic-cnn`.
    With --augmentations: a bank of augmented bags, for `gigassl pretrain`.
    """
    from gigassl.pipeline.bank import BankSettings, encode_bank, estimate_bank
    from gigassl.pipeline.embed import DEFAULT_ENCODER
    from gigassl.pipeline.encode import encode
    from gigassl.pipeline.jobs import RunOptions
    from gigassl.pipeline.progress import Reporter
    from gigassl.slides.cohort import read_cohort
    from gigassl.tiles.encoders import load_encoder
    from gigassl.urls import place_of

    draws = _draws(
        augmentations, tiles=tiles, draw=draw, stain_jitter=stain_jitter, turn_tiles=turn_tiles,
        seed=seed, others=(reduce, dry_run or None),
    )  # fmt: skip
    cluster = ray.cluster_engine(
        engine, device=device, address=address, actors=actors, gpus_per_actor=gpus_per_actor,
        cpus_per_actor=cpus_per_actor, decoders=decoders, retries=retries,
    )  # fmt: skip
    options = RunOptions(
        workers=workers, shard=opt.parse_shard(shard), slide_dir=slide_dir, masks=masks,
        overviews=overviews, variants=variants, engine=cluster,
        stores=opt.store_settings(storage_options, cache_dir=cache_dir, cache_gb=cache_gb),
    )  # fmt: skip
    if cluster and draws is not None:
        raise SettingsError("a bank is written by one process; leave --engine ray away")
    if variants and draws is not None:
        raise SettingsError(
            "--variants is for bags, --augmentations for a bank, whose tiles --turn-tiles turns; "
            "give one of the two"
        )
    cohort = read_cohort(place_of(source), slide_dir=slide_dir, stores=options.stores)
    encoder = load_encoder(
        tile_encoder or DEFAULT_ENCODER, backend=backend, device="cpu" if cluster else device,
        precision=precision, batch_size=batch_size,
    )  # fmt: skip
    grid = opt.grid_settings(
        encoder, preset=preset, tile_px=tile_px, target_mpp=target_mpp, min_tissue=min_tissue,
        overlap_px=overlap_px, allow_upsampling=allow_upsampling,
    )  # fmt: skip
    grid_tiles = opt.tile_settings(grid, tissue=tissue, slide_mpp=slide_mpp, scaled_dct=scaled_dct)
    if draws is None:
        with Reporter() as progress:
            done = encode(
                cohort, out, encoder=encoder, tiles=grid_tiles, options=options, progress=progress
            )
        finish(done, as_json=json)
    settings = BankSettings(tiles=grid_tiles, draws=draws, reduce=reduce)
    if dry_run:
        estimate = estimate_bank(cohort, out, encoder=encoder, settings=settings, options=options)
        text = json_module.dumps(estimate.summary(), indent=2) if json else estimate.sentence()
        typer.echo(text)
        return
    with Reporter() as progress:
        made = encode_bank(
            cohort, out, encoder=encoder, settings=settings, options=options, progress=progress
        )
    finish(made, as_json=json)


def _draws(
    augmentations: int | None, *, tiles: int | None, draw: Literal["scatter", "window"] | None,
    stain_jitter: float | None, turn_tiles: bool, seed: int | None, others: tuple[object, ...],
) -> "DrawSettings | None":  # fmt: skip
    """What a bank is to hold; None where bags are wanted.

    Raises:
        SettingsError: an option of banks without ``--augmentations``.
    """
    if augmentations is None:
        given = (tiles, draw, stain_jitter, turn_tiles or None, seed, *others)
        if any(value is not None for value in given):
            raise SettingsError(
                "--tiles, --draw, --stain-jitter, --turn-tiles, --seed, --reduce and --dry-run are "
                "for banks; say how many augmented batches a slide gets, such as --augmentations 50"
            )
        return None
    from gigassl.bags.bank_draws import DrawSettings
    from gigassl.tiles.augmentation import AugmentationSettings

    augmentation = AugmentationSettings(
        stain=stain_jitter or 0.0, flips=turn_tiles, turns=turn_tiles
    )
    return DrawSettings(
        augmentations=augmentations, tiles=tiles or 256, draw=draw or "scatter", seed=seed or 0,
        augmentation=augmentation,
    )  # fmt: skip
