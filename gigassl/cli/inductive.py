"""``gigassl inductive``: slide encoders pretrained inside each training fold."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from gigassl.cli import task_options as ask
from gigassl.cli.options import BagCoordsUnit, BagEncoder, BagMpp, Json
from gigassl.cli.pretrain import training_settings
from gigassl.cli.result import finish

EXAMPLE = (
    "Example: gigassl inductive bank/ --labels clinical.csv --target subtype --slide-encoder scm "
    "-o predictions.parquet"
)

TRAINING, RUN = "Training in each fold", "Run"


def inductive_command(
    source: Annotated[
        Path, typer.Argument(help="Folder of a bank; or folder or CSV of bags, also other tools'.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The predictions (.parquet) to write.")],
    labels: ask.Labels,
    slide_table: ask.SlideTable = None,
    target: ask.Target = None,
    kind: ask.Kind = "auto",
    time: ask.Time = None,
    event: ask.Event = None,
    site_column: ask.SiteColumn = None,
    splits: ask.Splits = None,
    scheme: ask.Scheme = "patient-kfold",
    folds: ask.Folds = 5,
    repeats: ask.Repeats = 1,
    test_fraction: ask.TestFraction = 0.2,
    train_sizes: ask.TrainSizes = "full",
    draws: ask.Draws = 1,
    seed: ask.Seed = 0,
    slide_encoder: Annotated[
        str, typer.Option(help="scm, mlp, abmil, spatial.", rich_help_panel=TRAINING)
    ] = "scm",
    preset: Annotated[
        Literal["default", "giga-ssl", "spatial"] | None,
        typer.Option(help="Settings that the options below change.", rich_help_panel=TRAINING,
                     show_default="default; spatial for the slide encoder spatial"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the slides of a fold.",
                                 rich_help_panel=TRAINING, show_default="preset")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Slides of a batch.", rich_help_panel=TRAINING,
                                 show_default="preset")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate at a batch of 256.",
                                   rich_help_panel=TRAINING, show_default="preset")
    ] = None,
    tiles: Annotated[
        int | None, typer.Option(help="Tiles of a view.", rich_help_panel=TRAINING,
                                 show_default="preset")
    ] = None,
    window: Annotated[
        Literal["scatter", "dense"] | None,
        typer.Option(help="Tiles from anywhere, or neighbouring ones.", rich_help_panel=TRAINING,
                     show_default="preset"),
    ] = None,
    pretrain_on: Annotated[
        Literal["fold", "split"],
        typer.Option(
            help="fold: the whole training part, without labels, also of few-shot splits; split: "
            "only the slides that are labelled.",
            rich_help_panel=TRAINING,
        ),
    ] = "fold",
    views: Annotated[
        int, typer.Option(help="A slide's vector is the mean of up to so many parts.", min=1)
    ] = 100,
    probe: Annotated[
        Literal["logistic", "ridge", "knn", "prototype", "cox"] | None,
        typer.Option(help="What reads the vectors.", show_default="by the kind of task"),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Kind of device.", rich_help_panel=RUN)
    ] = "auto",
    restart: Annotated[
        bool, typer.Option("--restart", help="Train anew over what is there.", rich_help_panel=RUN)
    ] = False,
    tile_encoder: BagEncoder = None,
    coords_unit: BagCoordsUnit = None,
    slide_mpp: BagMpp = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Pretrain a slide encoder inside each training fold, and probe it there.

    For claims that must not rest on having seen the test slides, even
    without labels. A killed run goes on where it was; the slide encoders
    stay in OUT.parts, so that another probe trains nothing anew.
    """
    # training has no readers beside it, see `gigassl pretrain`
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

    from gigassl.evaluate.probes import ProbeSettings
    from gigassl.pipeline.inductive import InductiveOptions, InductiveSettings, inductive
    from gigassl.pipeline.jobs import RunOptions
    from gigassl.pipeline.pretrain import NetworkSettings, PretrainOptions
    from gigassl.pipeline.pretrain_data import training_data
    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.training_progress import TrainingReporter
    from gigassl.vectors.ensemble import EnsembleSettings

    task = ask.task_options(
        labels, slide_table=slide_table, target=target, kind=kind, time=time, event=event,
        site_column=site_column, splits=splits, scheme=scheme, folds=folds, repeats=repeats,
        test_fraction=test_fraction, train_sizes=train_sizes, draws=draws, seed=seed,
    )  # fmt: skip
    settings = InductiveSettings(
        network=NetworkSettings(architecture=slide_encoder),
        pretrain=training_settings(
            preset or ("spatial" if slide_encoder == "spatial" else "default"),
            training={"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed},
            views={"tiles": tiles, "window": window},
        ),
        views=EnsembleSettings(views=views),
        probe=None if probe is None else ProbeSettings(method=probe),
        scope=pretrain_on,
    )
    run = RunOptions(bag_encoder=tile_encoder, coords_unit=coords_unit)
    with Reporter() as progress, TrainingReporter() as monitor:
        data = training_data(source, options=run, default_mpp=slide_mpp, progress=progress)
        options = InductiveOptions(
            training=PretrainOptions(device=device, restart=restart),
            monitor=monitor,
            progress=progress,
        )
        result = inductive(data, out, task=task, settings=settings, options=options)
    finish(result, as_json=json)
