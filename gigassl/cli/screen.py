"""``gigassl screen``: which of hundreds of targets slide vectors predict."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli import task_options as task
from gigassl.cli.options import Json
from gigassl.cli.result import finish

EXAMPLE = (
    "Example: gigassl screen vectors.parquet --labels mutations.csv --targets 'mut_*' "
    "--clinical age,sex,stage -o screen/"
)


def screen_command(
    vectors: Annotated[Path, typer.Argument(help="Table of slide vectors.")],
    labels: task.Labels,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    targets: Annotated[
        str, typer.Option(help="Columns, comma-separated; patterns such as 'mut_*'.")
    ] = "all",
    clinical: Annotated[
        str, typer.Option(help="Columns of clinical variables, the baseline.", show_default="none")
    ] = "",
    slide_table: task.SlideTable = None,
    folds: Annotated[int, typer.Option(help="Folds of patients.", min=2)] = 5,
    min_patients: Annotated[
        int, typer.Option(help="Of each class; smaller targets are left out.", min=2)
    ] = 10,
    strength: Annotated[
        float, typer.Option(help="C of the probes, of standardised vectors.")
    ] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of the folds.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Screen many targets (mutations, classes, expression) with false discoveries controlled.

    Every target is predicted by the same probe on the same folds of patients; p is one-sided, of
    patients compared inside folds, and q is adjusted over all targets (Benjamini-Hochberg).
    """
    from gigassl.evaluate.screening import ScreenSettings
    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.screen import screen
    from gigassl.pipeline.screen_targets import ScreenOptions

    options = ScreenOptions(
        labels=labels, slide_table=slide_table, targets=_names(targets), clinical=_names(clinical)
    )
    settings = ScreenSettings(folds=folds, seed=seed, strength=strength, min_patients=min_patients)
    with Reporter(what="targets") as reporter:
        result = screen(vectors, out, options=options, settings=settings, progress=reporter)
    finish(result, as_json=json)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
