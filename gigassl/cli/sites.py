"""``gigassl sites``: how much of the hospital is in vectors, and what a target loses by it."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli import task_options as task
from gigassl.cli.options import Json
from gigassl.cli.result import finish

EXAMPLE = "Example: gigassl sites vectors.parquet --labels clinical.csv --target subtype"


def sites_command(
    vectors: Annotated[Path, typer.Argument(help="Table of vectors.")],
    labels: task.Labels,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Parquet file for the predictions of the target."),
    ] = None,
    target: task.Target = None,
    kind: task.Kind = "auto",
    time: task.Time = None,
    event: task.Event = None,
    site_column: task.SiteColumn = None,
    slide_table: task.SlideTable = None,
    folds: task.Folds = 5,
    repeats: task.Repeats = 1,
    seed: task.Seed = 0,
    neighbours: Annotated[
        int, typer.Option(help="Of each slide, for the robustness index.", min=1)
    ] = 10,
    draws: Annotated[int, typer.Option(help="Bootstrap draws of patients.", min=100)] = 1000,
    json: Json = False,
) -> None:
    """Measure the site in vectors: how well they tell it, neighbours by biology and by site.

    The target is predicted on folds of patients and on folds of whole sites,
    and the drop between them given with its interval.
    """
    from gigassl.evaluate.bootstrap import BootstrapSettings
    from gigassl.pipeline.sites import SiteSettings, sites

    options = task.task_options(
        labels, slide_table=slide_table, target=target, kind=kind, time=time, event=event,
        site_column=site_column, folds=folds, repeats=repeats, seed=seed,
    )  # fmt: skip
    settings = SiteSettings(
        neighbours=neighbours, bootstrap=BootstrapSettings(draws=draws, seed=seed)
    )
    finish(sites(vectors, out, options=options, settings=settings), as_json=json)
