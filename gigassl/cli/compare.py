"""``gigassl compare``: methods on the same test slides, with intervals and tests."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from gigassl.cli.options import Json
from gigassl.cli.result import finish

EXAMPLE = (
    "Example: gigassl compare probe.parquet mil.parquet titan=theirs.csv -o comparison/ "
    "--reference abmil"
)


def compare_command(
    predictions: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FILE...",
            help="Predictions of probe, mil or fewshot; or other tools' CSV with slide_id and "
            "p_CLASS (or prob, value, risk).",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for Markdown, LaTeX, CSV, learning curves."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="auc, balanced_accuracy, …, r2, spearman, c_index.",
                     show_default="auc, spearman or c_index"),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Method that others are tested against.",
                     show_default="the first that is no control"),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Intervals hold 1 - alpha.")] = 0.05,
    adjust: Annotated[
        Literal["holm", "bh"], typer.Option(help="How p-values of many tests are adjusted.")
    ] = "holm",
    draws: Annotated[int, typer.Option(help="Bootstrap draws of patients.", min=100)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.", min=0)] = 0,
    json: Json = False,
) -> None:  # fmt: skip
    """Compare methods on the same test slides: metrics, intervals, paired tests, learning curves.

    The test is chosen by the data: DeLong for one test set of independent patients, the corrected
    resampled t-test for folds, the bootstrap over patients for pooled numbers.
    """
    from gigassl.evaluate.comparison import CompareSettings
    from gigassl.pipeline.compare import compare_files

    settings = CompareSettings(
        metric=metric, reference=reference, alpha=alpha, draws=draws, seed=seed, adjust=adjust
    )
    finish(compare_files(predictions, out, settings=settings), as_json=json)
