"""Options that say what is predicted and how it is divided, for every command that evaluates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from gigassl.pipeline.evaluation import PatientLevel, TaskOptions

TASK, SPLITS = "Task", "Splits"

Labels = Annotated[
    Path,
    typer.Option(
        help="Table of labels (CSV, TSV, Parquet): ours, CLAM's, Giga-SSL's, Patho-Bench's, "
        "STAMP's, TCGA's.",
        rich_help_panel=TASK,
    ),
]
SlideTable = Annotated[
    Path | None,
    typer.Option(help="PATIENT,FILENAME, where the labels are of patients.", rich_help_panel=TASK),
]
Target = Annotated[
    str | None,
    typer.Option(help="Column to predict.", rich_help_panel=TASK, show_default="label"),
]
Kind = Annotated[
    Literal["auto", "classification", "regression", "survival"],
    typer.Option(help="What is predicted; auto: by the column's values.", rich_help_panel=TASK),
]
Time = Annotated[
    str | None, typer.Option(help="Survival: column of the time.", rich_help_panel=TASK)
]
Event = Annotated[
    str | None,
    typer.Option(help="Survival: column of the event (1/0, dead/alive).", rich_help_panel=TASK),
]
SiteColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of the site.", rich_help_panel=TASK, show_default="the TCGA barcode's"
    ),
]
Patients = Annotated[
    Literal["none", "vectors", "predictions"],
    typer.Option(
        help="One row a patient: mean of its slides' vectors, or of their predictions.",
        rich_help_panel=TASK,
    ),
]
Splits = Annotated[
    Path | None,
    typer.Option(
        help="Published split files, or the .splits folder of another run.",
        rich_help_panel=SPLITS,
        show_default="made anew",
    ),
]
Scheme = Annotated[
    Literal["patient-kfold", "slide-kfold", "holdout", "leave-site-out", "site-preserved"],
    typer.Option(help="How to divide; slide-kfold leaks patients.", rich_help_panel=SPLITS),
]
Folds = Annotated[int, typer.Option(help="Folds.", min=2, rich_help_panel=SPLITS)]
Repeats = Annotated[
    int, typer.Option(help="Of the folds, or of hold-out.", min=1, rich_help_panel=SPLITS)
]
TestFraction = Annotated[
    float, typer.Option(help="Tested share of holdout.", rich_help_panel=SPLITS)
]
TrainSizes = Annotated[
    str,
    typer.Option(
        help="Comma-separated: full, slides in all (50), a share (25%), slides a class (k=5).",
        rich_help_panel=SPLITS,
    ),
]
Draws = Annotated[
    int, typer.Option(help="Few-shot draws a test set.", min=1, rich_help_panel=SPLITS)
]
Validation = Annotated[
    float, typer.Option(help="Share of training patients to validate on.", rich_help_panel=SPLITS)
]
Seed = Annotated[int, typer.Option(help="Of all chance.", min=0, rich_help_panel=SPLITS)]


def task_options(
    labels: Path,
    *,
    slide_table: Path | None = None,
    target: str | None = None,
    kind: Literal["auto", "classification", "regression", "survival"] = "auto",
    time: str | None = None,
    event: str | None = None,
    site_column: str | None = None,
    patients: "PatientLevel" = "none",
    splits: Path | None = None,
    scheme: Literal[
        "patient-kfold", "slide-kfold", "holdout", "leave-site-out", "site-preserved"
    ] = "patient-kfold",
    folds: int = 5,
    repeats: int = 1,
    test_fraction: float = 0.2,
    train_sizes: str = "full",
    draws: int = 1,
    validation: float = 0.0,
    seed: int = 0,
) -> "TaskOptions":
    """What the user said, as the pipeline takes it.

    Raises:
        SettingsError: settings out of range.
    """
    from gigassl.evaluate.splits import SplitSettings
    from gigassl.pipeline.evaluation import TaskOptions

    sizes = tuple(size.strip() for size in train_sizes.split(",") if size.strip())
    split = SplitSettings(
        scheme=scheme, folds=folds, repeats=repeats, test_fraction=test_fraction,
        train_sizes=sizes, draws=draws, seed=seed, validation=validation,
    )  # fmt: skip
    return TaskOptions(
        labels=labels, slide_table=slide_table, target=target, kind=kind, time=time, event=event,
        site_column=site_column, splits=splits, split=split, patients=patients,
    )  # fmt: skip
