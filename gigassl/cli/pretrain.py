"""``gigassl pretrain``: a slide encoder learned without labels."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gigassl.cli.options import BagCoordsUnit, BagEncoder, BagMpp, Json
from gigassl.cli.result import finish_training

if TYPE_CHECKING:
    from gigassl.vectors.pretrain.settings import PretrainSettings

EXAMPLE = (
    "Example: gigassl pretrain bank/ -o slide-encoder.safetensors --epochs 300 "
    "--labels clinical.csv --label-column subtype"
)

TRAINING, VIEWS, LOG, RUN = "Training", "Views", "What it shows", "Run"


def pretrain_command(
    source: Annotated[
        Path, typer.Argument(help="Folder of a bank; or folder or CSV of bags, also other tools'.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
    slide_encoder: Annotated[
        str, typer.Option(help="scm, mlp, abmil, spatial.", rich_help_panel=TRAINING)
    ] = "scm",
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Tile encoder (a ResNet18: name or file) whose last stage scm begins as.",
            rich_help_panel=TRAINING,
            show_default="random weights",
        ),
    ] = None,
    preset: Annotated[
        Literal["default", "giga-ssl", "spatial"] | None,
        typer.Option(help="Settings that the options below change; giga-ssl: as published.",
                     rich_help_panel=TRAINING,
                     show_default="default; spatial for the slide encoder spatial"),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="simclr, vicreg, barlow, byol, simsiam; neighbours for spatial.",
                     rich_help_panel=TRAINING, show_default="preset"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over all slides.", rich_help_panel=TRAINING,
                                 show_default="preset")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Slides of a batch, each of another patient.",
                                 rich_help_panel=TRAINING, show_default="preset")
    ] = None,
    optimizer: Annotated[
        Literal["adam", "adamw", "lars"] | None,
        typer.Option(help="How it is learned.", rich_help_panel=TRAINING, show_default="preset"),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate at a batch of 256; scaled with the batch.",
                     rich_help_panel=TRAINING, show_default="preset"),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of simclr.", rich_help_panel=TRAINING,
                                   show_default="preset")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.", rich_help_panel=TRAINING)] = 0,
    tiles: Annotated[
        int | None, typer.Option(help="Tiles of a view.", rich_help_panel=VIEWS,
                                 show_default="preset")
    ] = None,
    window: Annotated[
        Literal["scatter", "dense"] | None,
        typer.Option(help="Tiles from anywhere, or neighbouring ones.", rich_help_panel=VIEWS,
                     show_default="preset"),
    ] = None,
    rotation: Annotated[
        Literal["any", "right", "none"] | None,
        typer.Option(help="By any angle, by 90° steps, or not at all.", rich_help_panel=VIEWS,
                     show_default="preset"),
    ] = None,
    feature_noise: Annotated[
        float | None,
        typer.Option(help="Noise added to a view's features, for bags without augmentations.",
                     rich_help_panel=VIEWS, show_default="preset"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV with slide_id and labels, for kNN accuracy only.",
                     rich_help_panel=LOG, show_default="the cohort's own table"),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Its column.", rich_help_panel=LOG)
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Kind of device.", rich_help_panel=RUN)
    ] = "auto",
    devices: Annotated[
        int,
        typer.Option(help="How many of a machine share a batch.", min=1, rich_help_panel=RUN),
    ] = 1,
    nodes: Annotated[
        int,
        typer.Option(help="Machines, started by SLURM or torchrun.", min=1, rich_help_panel=RUN),
    ] = 1,
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        typer.Option(help="Of the network.", rich_help_panel=RUN, show_default="preset"),
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Epochs between two.", min=1, rich_help_panel=RUN,
                                 show_default="a fiftieth")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Train anew over what is there.", rich_help_panel=RUN)
    ] = False,
    tile_encoder: BagEncoder = None,
    coords_unit: BagCoordsUnit = None,
    slide_mpp: BagMpp = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Train a slide encoder without labels, on a bank or on bags.

    A killed run goes on where it was when the same command is given
    again. Curves of loss, rank, collapse and kNN accuracy lie in OUT.log;
    if the vectors collapse, training stops and the exit code is 1.
    """
    # training has no readers beside it: threads that stay awake between small operations make it
    # half as fast again; before torch loads. On a machine busy with other work 0 is faster.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

    from gigassl.pipeline.pretrain import NetworkSettings, PretrainOptions, pretrain
    from gigassl.pipeline.training_progress import TrainingReporter

    settings = training_settings(
        preset or ("spatial" if slide_encoder == "spatial" else "default"),
        training={
            "objective": objective, "epochs": epochs, "batch_size": batch_size, "lr": lr,
            "optimiser": optimizer, "temperature": temperature, "precision": precision,
            "seed": seed,
        },
        views={
            "tiles": tiles, "window": window, "rotation": rotation, "feature_noise": feature_noise
        },
    )  # fmt: skip
    options = PretrainOptions(
        device=device, devices=devices, nodes=nodes, labels=labels, label_column=label_column,
        checkpoint_every=checkpoint_every, restart=restart, bag_encoder=tile_encoder,
        coords_unit=coords_unit, slide_mpp=slide_mpp,
    )  # fmt: skip
    network = NetworkSettings(architecture=slide_encoder, init_from=init_from)
    with TrainingReporter() as monitor:
        result = pretrain(
            source, out, network=network, settings=settings, options=options, monitor=monitor
        )
    finish_training(result, as_json=json, alarm=result.alarm())


def training_settings(
    preset: str, *, training: dict[str, object], views: dict[str, object]
) -> "PretrainSettings":
    """The preset, changed by what the user said."""
    from dataclasses import replace

    from gigassl.vectors.pretrain.settings import PRESETS

    base = PRESETS[preset]
    said = {name: value for name, value in training.items() if value is not None}
    seen = {name: value for name, value in views.items() if value is not None}
    return replace(base, views=replace(base.views, **seen), **said)  # type: ignore[arg-type]
