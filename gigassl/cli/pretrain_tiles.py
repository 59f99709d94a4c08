"""``gigassl pretrain-tiles``: a tile encoder learned on one's own slides without labels."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gigassl.cli import options as opt
from gigassl.cli.pretrain_tiles_options import (
    method_options,
    tile_data_settings,
    tiled_files,
    training_settings,
)
from gigassl.cli.result import finish, finish_training

EXAMPLE = (
    "Example: gigassl pretrain-tiles slides/ -o tile-encoder.safetensors --method moco "
    "--arch timm:resnet18 --target-mpp 0.5"
)

NETWORK, TRAINING, SAMPLING, VIEWS, LOG = (
    "Network", "Training", "Which tiles are drawn", "Views", "What it shows"
)  # fmt: skip


def pretrain_tiles_command(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE...",
                       help="Folder or CSV of slides, or a folder of images; for supervised and "
                       "multitask labelled images, each a folder of class folders or a CSV."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
    arch: Annotated[
        str | None,
        typer.Option(help="timm name of the network, with random weights; or nic:vae, nic:bigan.",
                     rich_help_panel=NETWORK,
                     show_default="that of --init-from or of the method, else resnet18"),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(help="Tile encoder (name or file) whose weights it begins with.",
                     rich_help_panel=NETWORK, show_default="random weights"),
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="moco, simclr, byol, dino, vicreg, barlow; dinov2 for transformers; "
                     "vae, contrastive, bigan: neural image compression; supervised, multitask: "
                     "from labels.",
                     rich_help_panel=TRAINING),
    ] = "moco",
    method_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="Of the method, such as temperature=0.1.",
                     rich_help_panel=TRAINING),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over as many tiles as there are.",
                                 rich_help_panel=TRAINING, show_default="the method's")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Instead: steps of the optimiser.", rich_help_panel=TRAINING)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Tiles of a batch, over all devices.",
                                 rich_help_panel=TRAINING, show_default="the method's")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Batches a step.", rich_help_panel=TRAINING,
                                 show_default="1")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate at a batch of 256; scaled with the batch.",
                     rich_help_panel=TRAINING, show_default="the method's"),
    ] = None,
    optimizer: Annotated[
        Literal["sgd", "adam", "adamw", "lars"] | None,
        typer.Option(help="How it is learned.", rich_help_panel=TRAINING,
                     show_default="the method's"),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Of weights.", rich_help_panel=TRAINING,
                                   show_default="the method's")
    ] = None,
    warmup: Annotated[
        float | None,
        typer.Option(help="Share of the steps in which the learning rate rises.",
                     rich_help_panel=TRAINING, show_default="the method's"),
    ] = None,
    schedule: Annotated[
        Literal["cosine", "constant", "plateau"] | None,
        typer.Option(help="Of the learning rate; plateau: a tenth when held-out tiles stay as "
                     "they are.", rich_help_panel=TRAINING, show_default="the method's"),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="Share of the patients that are held out and only measured.",
                     rich_help_panel=TRAINING, show_default="the method's"),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        typer.Option(help="Of the network.", rich_help_panel=TRAINING, show_default="fp32"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.", rich_help_panel=TRAINING)] = 0,
    images: Annotated[
        bool | None,
        typer.Option("--images/--slides", help="What SOURCE holds.", rich_help_panel=opt.TILES,
                     show_default="looked up"),
    ] = None,
    tile_px: opt.TilePx = None,
    target_mpp: opt.TargetMpp = None,
    min_tissue: opt.MinTissue = None,
    slide_mpp: opt.SlideMpp = None,
    allow_upsampling: opt.AllowUpsampling = False,
    tissue: opt.Tissue = "hne",
    masks: opt.Masks = None,
    slide_dir: opt.SlideDir = None,
    slide_weight: Annotated[
        float | None,
        typer.Option(help="0 draws all slides alike, 1 all tiles alike.", rich_help_panel=SAMPLING,
                     show_default="0.5"),
    ] = None,
    slides_per_batch: Annotated[
        int | None, typer.Option(help="Slides that one batch comes from.",
                                 rich_help_panel=SAMPLING, show_default="64")
    ] = None,
    jitter: Annotated[
        float | None,
        typer.Option(help="µm/px of a tile is the target's times e to at most ± this.",
                     rich_help_panel=SAMPLING, show_default="0.1"),
    ] = None,
    second_mpp: Annotated[
        float | None, typer.Option(help="Half of the tiles are drawn at this µm/px instead.",
                                   rich_help_panel=SAMPLING)
    ] = None,
    neighbours: Annotated[
        bool, typer.Option("--neighbours", help="The second view is of the tile next to the first.",
                           rich_help_panel=SAMPLING)
    ] = False,
    view_px: Annotated[
        int | None, typer.Option(help="Side of the large views, px.", rich_help_panel=VIEWS,
                                 show_default="--tile-px")
    ] = None,
    small_views: Annotated[
        int | None, typer.Option(help="Small views of a tile.", rich_help_panel=VIEWS,
                                 show_default="8 for dino and dinov2, else 0")
    ] = None,
    small_px: Annotated[
        int | None, typer.Option(help="Their side, px.", rich_help_panel=VIEWS,
                                 show_default="96 at 224")
    ] = None,
    min_crop: Annotated[
        float | None,
        typer.Option(help="Least share of a tile that a large view shows.", rich_help_panel=VIEWS,
                     show_default="the method's"),
    ] = None,
    stain: Annotated[
        float | None,
        typer.Option(help="Strength of the jitter of haematoxylin and eosin.",
                     rich_help_panel=VIEWS, show_default="0.2"),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(help="Only draw tiles and their views as this PNG; train nothing.",
                     rich_help_panel=LOG),
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(help="Labelled images for kNN accuracy: folder of class folders, or a CSV.",
                     rich_help_panel=LOG),
    ] = None,
    label_column: Annotated[
        str | None,
        typer.Option(help="Column of classes in tables of labelled images.", rich_help_panel=LOG,
                     show_default="label, class or target"),
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(help="Column of groups (patients), never compared with themselves.",
                     rich_help_panel=LOG, show_default="group, patient or the like"),
    ] = None,
    group_pattern: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Instead: what it finds in a file's path is the group.",
                     rich_help_panel=LOG),
    ] = None,
    labelled_mpp: Annotated[
        float | None,
        typer.Option(help="µm/px of these images: cut them into tiles.", rich_help_panel=LOG,
                     show_default="an image is one tile"),
    ] = None,
    keep: Annotated[
        Literal["last", "best"] | None,
        typer.Option(help="Which round's encoder OUT is; the other lies in OUT.log.",
                     rich_help_panel=opt.RUN,
                     show_default="last; best where patients are held out"),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Kind of device.",
                                                     rich_help_panel=opt.RUN)
    ] = "auto",
    devices: Annotated[
        int, typer.Option(help="How many of a machine share a batch.", min=1,
                          rich_help_panel=opt.RUN)
    ] = 1,
    nodes: Annotated[
        int, typer.Option(help="Machines, started by SLURM or torchrun.", min=1,
                          rich_help_panel=opt.RUN)
    ] = 1,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that read tiles; do not change results.",
                     rich_help_panel=opt.RUN, show_default="by device"),
    ] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Between two states to go on from.", rich_help_panel=opt.RUN)
    ] = 10.0,
    restart: Annotated[
        bool, typer.Option("--restart", help="Train anew over what is there.",
                           rich_help_panel=opt.RUN)
    ] = False,
    json: opt.Json = False,
) -> None:  # fmt: skip
    """Train a tile encoder on your own slides, without labels or with.

    The file serves wherever an encoder's name does: gigassl embed SLIDES
    -o vectors.parquet --tile-encoder OUT. A stopped or killed run goes on
    where it was when the same command is given again. Curves of loss, rank,
    collapse and kNN accuracy lie in OUT.log; if the vectors collapse, the
    exit code is 1.
    """
    # training has no other threads beside it: see `gigassl pretrain`
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

    from gigassl.pipeline.pretrain_tiles import pretrain_tiles
    from gigassl.pipeline.pretrain_tiles_data import TileDataOptions
    from gigassl.pipeline.pretrain_tiles_preview import exam_of, preview_tiles
    from gigassl.pipeline.pretrain_tiles_settings import PretrainTilesOptions, PretrainTilesSettings
    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.training_progress import TrainingReporter
    from gigassl.tiles.labelled_images import read_labelled
    from gigassl.tiles.pretrain.catalogue import learns_from_labels
    from gigassl.tiles.training_networks import TileNetwork

    data = tile_data_settings(
        init_from, method=method,
        grid={
            "tile_px": tile_px, "target_mpp": target_mpp, "min_tissue": min_tissue,
            "allow_upsampling": allow_upsampling,
        },
        tissue=tissue, slide_mpp=slide_mpp,
        sampling={
            "slide_weight": slide_weight, "slides_per_batch": slides_per_batch,
            "jitter_mpp": jitter, "second_mpp": second_mpp, "neighbours": neighbours,
        },
    )  # fmt: skip
    settings = PretrainTilesSettings(
        training=training_settings(
            method,
            training={
                "options": method_options(method_option), "epochs": epochs, "steps": steps,
                "batch_size": batch_size, "accumulate": accumulate, "lr": lr,
                "optimiser": optimizer, "weight_decay": weight_decay, "warmup": warmup,
                "schedule": schedule, "validation": validation,
                "precision": precision, "seed": seed,
            },
            views={"n_small": small_views, "small_px": small_px},
            drawn={"min_crop": min_crop, "stain": stain},
            side_px=view_px or data.tiles.grid.tile_px,
        ),
        network=TileNetwork(architecture=arch, init_from=init_from),
        data=data,
    )  # fmt: skip
    columns: dict[str, Any] = {
        "label_column": label_column, "group_column": group_column, "group_pattern": group_pattern,
    }  # fmt: skip
    source = tiled_files(sources, labelled=learns_from_labels(method), columns=columns)
    exam = None
    if labelled is not None and preview is None:
        seen = read_labelled(labelled, **columns)
        exam = exam_of(seen, grid=data.tiles.grid, image_mpp=labelled_mpp)
    options = PretrainTilesOptions(
        device=device, devices=devices, nodes=nodes, workers=workers, restart=restart, keep=keep,
        checkpoint_minutes=checkpoint_minutes, exam=exam,
        data=TileDataOptions(images=images, slide_dir=slide_dir, masks=masks),
    )  # fmt: skip
    with Reporter() as progress, TrainingReporter() as monitor:
        if preview is not None:
            drawn = preview_tiles(
                source, out, picture=preview, settings=settings, options=options, progress=progress
            )
            finish(drawn, as_json=json)
        result = pretrain_tiles(
            source, out, settings=settings, options=options, progress=progress, monitor=monitor
        )
    finish_training(result, as_json=json, alarm=result.alarm())
