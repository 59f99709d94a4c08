"""``gigassl encode``: slides into bags."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli import options as opt
from gigassl.cli.result import finish

EXAMPLE = "Example: gigassl encode slides/ -o bags/ --tile-encoder timm:resnet50 --target-mpp 1.0"


def encode_command(
    source: opt.Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for one .h5 a slide.")],
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
    json: opt.Json = False,
) -> None:
    """Encode slides into bags: one .h5 a slide with tile features and coordinates.

    The layout is TRIDENT's, which CLAM, TRIDENT and torchmil users can read.
    """
    from gigassl.pipeline.embed import DEFAULT_ENCODER
    from gigassl.pipeline.encode import encode
    from gigassl.pipeline.jobs import RunOptions
    from gigassl.pipeline.progress import Reporter
    from gigassl.slides.cohort import read_cohort
    from gigassl.tiles.encoders import load_encoder

    options = RunOptions(
        workers=workers, shard=opt.parse_shard(shard), slide_dir=slide_dir, masks=masks,
        overviews=overviews,
    )  # fmt: skip
    cohort = read_cohort(source, slide_dir=slide_dir)
    encoder = load_encoder(
        tile_encoder or DEFAULT_ENCODER, backend=backend, device=device, precision=precision,
        batch_size=batch_size,
    )  # fmt: skip
    grid = opt.grid_settings(
        encoder, preset=preset, tile_px=tile_px, target_mpp=target_mpp, min_tissue=min_tissue,
        overlap_px=overlap_px, allow_upsampling=allow_upsampling,
    )  # fmt: skip
    tiles = opt.tile_settings(grid, tissue=tissue, slide_mpp=slide_mpp, scaled_dct=scaled_dct)
    with Reporter() as progress:
        result = encode(
            cohort, out, encoder=encoder, tiles=tiles, options=options, progress=progress
        )
    finish(result, as_json=json)
