"""Options that several commands share, and how they become settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gigassl.errors import SettingsError

if TYPE_CHECKING:
    from gigassl.bags.prepare import TileSettings
    from gigassl.slides.grid import GridSettings
    from gigassl.stores import StoreSettings
    from gigassl.tiles.engine import TileEncoder

ENCODER, TILES, RUN, STORE = "Tile encoder", "Tiles", "Run", "Slides at URLs"

Source = Annotated[
    Path, typer.Argument(help="Folder (searched recursively), file, or CSV: slide_id,path[,mpp].")
]
SourceOrUrl = Annotated[
    str,
    typer.Argument(
        help="Folder (searched recursively), file, or CSV: slide_id,path[,mpp]; or its URL "
        "(s3://, gs://, https://).",
    ),
]
StorageOptions = Annotated[
    str | None,
    typer.Option(
        help='How stores are reached, as JSON for fsspec, such as {"endpoint_url": "…"}. Passwords '
        "belong into the environment.",
        rich_help_panel=STORE,
        show_default="environment",
    ),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder for local copies of slides at URLs.",
        rich_help_panel=STORE,
        show_default="the system's temporary folder",
    ),
]
CacheGb = Annotated[
    float, typer.Option(help="GB that local copies take at most.", rich_help_panel=STORE)
]
TileEncoderName = Annotated[
    str | None,
    typer.Option(
        help="efficientnet-lite0 (bundled), a name of `gigassl doctor --encoders`, timm:NAME, "
        "hf-hub:REPO, or a checkpoint file; #DIGEST behind it refuses other weights.",
        rich_help_panel=ENCODER,
        show_default="efficientnet-lite0",
    ),
]
Backend = Annotated[
    Literal["torch", "openvino"], typer.Option(help="What runs it.", rich_help_panel=ENCODER)
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.", rich_help_panel=ENCODER)]
Precision = Annotated[
    Literal["fp32", "bf16"] | None,
    typer.Option(
        help="Overrides the encoder's own precision.",
        rich_help_panel=ENCODER,
        show_default="what the encoder allows",
    ),
]
BatchSize = Annotated[
    int, typer.Option(help="Tiles encoded at once.", min=1, rich_help_panel=ENCODER)
]
Preset = Annotated[
    Literal["giga-ssl"] | None,
    typer.Option(help="A published tile grid.", rich_help_panel=TILES),
]
TilePx = Annotated[
    int | None,
    typer.Option(
        help="Side of a tile, px.", rich_help_panel=TILES, show_default="the encoder's input"
    ),
]
TargetMpp = Annotated[
    float | None,
    typer.Option(
        help="Resolution of the tiles, µm/px.",
        rich_help_panel=TILES,
        show_default="what the encoder expects",
    ),
]
OverlapPx = Annotated[int, typer.Option(help="Overlap of tiles, px.", rich_help_panel=TILES)]
MinTissue = Annotated[
    float | None,
    typer.Option(
        help="Keep tiles with at least this fraction of tissue.", rich_help_panel=TILES,
        show_default="0.5",
    ),
]  # fmt: skip
SlideMpp = Annotated[
    float | None,
    typer.Option(help="µm/px of slides whose file and table do not say it.", rich_help_panel=TILES),
]
AllowUpsampling = Annotated[
    bool, typer.Option("--allow-upsampling", help="Enlarge slides that are too coarse.",
                       rich_help_panel=TILES)
]  # fmt: skip
Tissue = Annotated[
    Literal["hne", "none"],
    typer.Option(help="Tissue detection; none keeps every tile.", rich_help_panel=TILES),
]
Masks = Annotated[
    Path | None,
    typer.Option(
        help="Folder of SLIDE_ID.png or .geojson tissue masks, used instead of detection.",
        rich_help_panel=TILES,
    ),
]
ScaledDct = Annotated[
    bool,
    typer.Option("--scaled-dct", help="Shrink while decoding JPEG: faster, pixels differ slightly.",
                 rich_help_panel=TILES),
]  # fmt: skip
Overviews = Annotated[
    Path | None,
    typer.Option(
        help="Folder for a picture per slide (tissue and kept tiles), and the tissue as GeoJSON.",
        rich_help_panel=RUN,
    ),
]
SlideDir = Annotated[
    Path | None,
    typer.Option(help="Where the slides of a table without paths lie.", rich_help_panel=RUN),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Reader threads; do not change results.", rich_help_panel=RUN, show_default="by device"
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N", help="Only part I (1…N) of the cohort, for job arrays.", rich_help_panel=RUN
    ),
]
AllowCollapsed = Annotated[
    bool,
    typer.Option(
        "--allow-collapsed",
        help="Exit code 0 also where a slide encoder's vectors tell slides apart no more.",
        rich_help_panel=RUN,
    ),
]
BagEncoder = Annotated[
    str | None, typer.Option(help="Of bags that do not say it.", rich_help_panel=RUN)
]
BagCoordsUnit = Annotated[
    Literal["um", "px"] | None,
    typer.Option(help="Unit of bag coordinates that have none.", rich_help_panel=RUN),
]
BagMpp = Annotated[
    float | None,
    typer.Option(help="Level-0 µm/px of bags that do not say it.", rich_help_panel=RUN),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def store_settings(
    options: str | None, *, cache_dir: Path | None = None, cache_gb: float = 50.0
) -> "StoreSettings":
    """How stores are reached.

    Raises:
        SettingsError: options that are no JSON object.
    """
    import json

    from gigassl.stores import StoreSettings

    try:
        given = json.loads(options or "{}")
    except json.JSONDecodeError as error:
        raise SettingsError(f"--storage-options wants JSON: {error}") from error
    if not isinstance(given, dict):
        raise SettingsError(f"--storage-options wants a JSON object; got {type(given).__name__}")
    return StoreSettings(options=given, cache_dir=cache_dir, cache_gb=cache_gb)


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """``"2/8"`` as (2, 8).

    Raises:
        SettingsError: another form.
    """
    if text is None:
        return None
    index, slash, of = text.partition("/")
    if not (slash and index.isdecimal() and of.isdecimal()):
        raise SettingsError(f"--shard wants I/N, such as 2/8; got '{text}'")
    return int(index), int(of)


def grid_settings(
    encoder: "TileEncoder", *, preset: str | None, tile_px: int | None, target_mpp: float | None,
    min_tissue: float | None, overlap_px: int, allow_upsampling: bool,
) -> "GridSettings":  # fmt: skip
    """What the user said, else the preset, else what the encoder expects."""
    from dataclasses import replace

    from gigassl.slides.grid import GRID_PRESETS, GridSettings

    record = encoder.record
    base = (
        GRID_PRESETS[preset]
        if preset
        else GridSettings(tile_px=record.input_px, target_mpp=record.mpp)
    )
    return replace(
        base,
        tile_px=base.tile_px if tile_px is None else tile_px,
        target_mpp=base.target_mpp if target_mpp is None else target_mpp,
        min_tissue=base.min_tissue if min_tissue is None else min_tissue,
        overlap_px=overlap_px,
        allow_upsampling=allow_upsampling,
    )


def tile_settings(
    grid: "GridSettings", *, tissue: str, slide_mpp: float | None, scaled_dct: bool
) -> "TileSettings":
    """The settings of the slide-to-tiles stage."""
    from gigassl.bags.prepare import TileSettings
    from gigassl.slides.tissue import TissueSettings

    return TileSettings(
        grid=grid,
        tissue=None if tissue == "none" else TissueSettings(),
        default_mpp=slide_mpp,
        scaled_dct=scaled_dct,
    )
