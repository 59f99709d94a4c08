"""``gigassl mil``: supervised models on bags, on the same folds as every other method."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from gigassl.cli import task_options as task
from gigassl.cli.options import BagCoordsUnit, BagEncoder, BagMpp, Json
from gigassl.cli.result import finish

EXAMPLE = (
    "Example: gigassl mil bank/ --labels clinical.csv --target subtype --model abmil,clam-sb "
    "--splits probe.parquet.splits -o mil.parquet"
)

MODELS, RUN = "Models", "Run"


def mil_command(
    source: Annotated[
        Path, typer.Argument(help="Folder of a bank; or folder or CSV of bags, also other tools'.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The Parquet file to write.")],
    labels: task.Labels,
    model: Annotated[
        str,
        typer.Option(
            help="Comma-separated: mean, max, mean-mlp, abmil, gated-abmil, clam-sb, dsmil, "
            "transmil; all for these; or nic-cnn, a CNN on the slide as an image of features.",
            rich_help_panel=MODELS,
        ),
    ] = "abmil",
    epochs: Annotated[
        int | None, typer.Option(help="Most passes over the bags.", rich_help_panel=MODELS,
                                 show_default="as published")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Epochs without a lower validation loss until it ends.",
                                 rich_help_panel=MODELS, show_default="20")
    ] = None,
    watched: Annotated[
        float | None,
        typer.Option(help="Share of training patients for early stopping, where splits have no "
                     "validation part.", rich_help_panel=MODELS, show_default="0.2"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Bags of a batch.", rich_help_panel=MODELS,
                                 show_default="1; 32 for survival; 16 of nic-cnn")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate.", rich_help_panel=MODELS,
                                   show_default="as published")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Of AdamW.", rich_help_panel=MODELS,
                                   show_default="as published")
    ] = None,
    balance: Annotated[
        Literal["none", "loss", "sampling"] | None,
        typer.Option(help="How classes get equal say.", rich_help_panel=MODELS,
                     show_default="sampling"),
    ] = None,
    max_tiles: Annotated[
        int | None, typer.Option(help="Tiles of a training bag, drawn each epoch.",
                                 rich_help_panel=MODELS, show_default="4096")
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Side of nic-cnn's crops, in tiles.", rich_help_panel=MODELS,
                                 show_default="the largest slide's, up to 400")
    ] = None,
    name: Annotated[
        str, typer.Option(help="Of the method in the table, such as the encoder's.",
                          rich_help_panel=MODELS, show_default="the model's")
    ] = "",
    standardise: Annotated[
        bool, typer.Option("--standardise", help="Features to mean 0 and spread 1, by the "
                           "training bags.", rich_help_panel=MODELS)
    ] = False,
    target: task.Target = None,
    kind: task.Kind = "auto",
    time: task.Time = None,
    event: task.Event = None,
    site_column: task.SiteColumn = None,
    slide_table: task.SlideTable = None,
    patients: task.Patients = "none",
    splits: task.Splits = None,
    scheme: task.Scheme = "patient-kfold",
    folds: task.Folds = 5,
    repeats: task.Repeats = 1,
    test_fraction: task.TestFraction = 0.2,
    train_sizes: task.TrainSizes = "full",
    draws: task.Draws = 1,
    validation: task.Validation = 0.0,
    seed: task.Seed = 0,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:1.", rich_help_panel=RUN)
    ] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        typer.Option(help="Of the network.", rich_help_panel=RUN,
                     show_default="bf16 on a GPU, fp32 on a CPU"),
    ] = None,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Write each split's model to OUT.models/.",
                           rich_help_panel=RUN)
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Train anew over what is there.", rich_help_panel=RUN)
    ] = False,
    tile_encoder: BagEncoder = None,
    coords_unit: BagCoordsUnit = None,
    slide_mpp: BagMpp = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Train MIL models on bags with labels, and predict the test slides of each split.

    A killed run goes on where it was when the same command is given
    again. The splits lie in OUT.splits: give them to other methods with
    --splits, and all are compared on the same slides. nic-cnn wants bags
    whose tiles lie on a grid, best with the eight turned variants
    (`gigassl encode --variants`).
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as `gigassl pretrain` does, and why there

    from gigassl.evaluate.mil.models import OF_BAGS
    from gigassl.pipeline.mil import MilOptions, mil
    from gigassl.pipeline.mil_progress import MilReporter

    said = {
        "epochs": epochs, "patience": patience, "validation": watched, "batch_size": batch_size,
        "lr": lr, "weight_decay": weight_decay, "balance": balance, "max_tiles": max_tiles,
        "standardise": standardise or None, "precision": precision, "device": device,
    }  # fmt: skip
    names = [name.strip() for name in model.split(",") if name.strip()]
    models = MilOptions(
        models=list(OF_BAGS) if names == ["all"] else names,
        changes={name: value for name, value in said.items() if value is not None},
        crop=crop, name=name, keep_models=keep_models, restart=restart, bag_encoder=tile_encoder,
        coords_unit=coords_unit, slide_mpp=slide_mpp,
    )  # fmt: skip
    options = task.task_options(
        labels, slide_table=slide_table, target=target, kind=kind, time=time, event=event,
        site_column=site_column, patients=patients, splits=splits, scheme=scheme, folds=folds,
        repeats=repeats, test_fraction=test_fraction, train_sizes=train_sizes, draws=draws,
        validation=validation, seed=seed,
    )  # fmt: skip
    with MilReporter() as monitor:
        result = mil(source, out, options=options, models=models, monitor=monitor)
    finish(result, as_json=json)
