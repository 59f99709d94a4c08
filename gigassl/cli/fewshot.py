"""``gigassl fewshot``: what methods learn from few slides, on the same draws for all."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli import task_options as task
from gigassl.cli.options import BagCoordsUnit, Json
from gigassl.cli.result import finish

EXAMPLE = (
    "Example: gigassl fewshot vectors.parquet --labels clinical.csv --target subtype "
    "--train-sizes 25,50,100,full --bags bags/ --mil abmil,clam-sb -o fewshot/"
)

METHODS, CONTROLS, RUN = "Methods", "Controls", "Run"


def fewshot_command(
    vectors: Annotated[
        list[Path], typer.Argument(help="Tables of vectors, one a method to compare.")
    ],
    labels: task.Labels,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of predictions, draws, tables, figure.")
    ],
    target: task.Target = None,
    kind: task.Kind = "auto",
    time: task.Time = None,
    event: task.Event = None,
    site_column: task.SiteColumn = None,
    slide_table: task.SlideTable = None,
    patients: task.Patients = "none",
    splits: Annotated[
        Path | None,
        typer.Option(help="Published split files: their test sets stay, draws are from their "
                     "training slides.", rich_help_panel=task.SPLITS, show_default="made anew"),
    ] = None,
    scheme: task.Scheme = "patient-kfold",
    folds: task.Folds = 5,
    repeats: task.Repeats = 1,
    test_fraction: task.TestFraction = 0.2,
    train_sizes: task.TrainSizes = "25,50,100,full",
    draws: task.Draws = 20,
    seed: task.Seed = 0,
    probes: Annotated[
        str,
        typer.Option("--probes", help="Comma-separated: giga-ssl (C = 10), logistic (C chosen), "
                     "prototype, knn, ridge, cox.", rich_help_panel=METHODS,
                     show_default="all that suit the task"),
    ] = "",
    mil: Annotated[
        str | None,
        typer.Option(help="Comma-separated MIL models on the bags, or none.",
                     rich_help_panel=METHODS, show_default="abmil where --bags is given"),
    ] = None,
    bags: Annotated[
        Path | None,
        typer.Option(help="Bags or bank of the same slides: MIL, and controls of the first table.",
                     rich_help_panel=METHODS),
    ] = None,
    slide_encoder: Annotated[
        Path | None,
        typer.Option(help="Of the first table: random weights, shuffled coordinates, too.",
                     rich_help_panel=CONTROLS),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Method that others are tested against.",
                                 rich_help_panel=METHODS, show_default="the first")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Of MIL: auto, cpu, cuda or cuda:1.", rich_help_panel=RUN)
    ] = "auto",
    restart: Annotated[
        bool, typer.Option("--restart", help="Train MIL anew over what is there.",
                           rich_help_panel=RUN)
    ] = False,
    coords_unit: BagCoordsUnit = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Compare what vectors and MIL learn from few slides.

    Test sets stay; draws from the other patients lie in each other and
    are the same for every method. A killed run goes on where it was.
    """
    from gigassl.evaluate.comparison import CompareSettings
    from gigassl.pipeline.fewshot import FewshotOptions, fewshot
    from gigassl.pipeline.mil_progress import MilReporter

    asked = task.task_options(
        labels, slide_table=slide_table, target=target, kind=kind, time=time, event=event,
        site_column=site_column, patients=patients, splits=splits, scheme=scheme, folds=folds,
        repeats=repeats, test_fraction=test_fraction, train_sizes=train_sizes, draws=draws,
        seed=seed,
    )  # fmt: skip
    models = _names(mil) if mil is not None else ("abmil",) if bags is not None else ()
    options = FewshotOptions(
        probes=_names(probes), bags=bags, mil=() if models == ("none",) else models,
        slide_encoder=slide_encoder, coords_unit=coords_unit, device=device, restart=restart,
        compare=CompareSettings(reference=reference),
    )  # fmt: skip
    with MilReporter() as monitor:
        result = fewshot(vectors, out, task=asked, options=options, monitor=monitor)
    finish(result, as_json=json)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
