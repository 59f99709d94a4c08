"""``gigassl report``: everything that is known of a cohort on one page."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli.options import Json
from gigassl.cli.result import finish

EXAMPLE = (
    "Example: gigassl report vectors.parquet --labels clinical.csv --slides slides/ -o report.html"
)

SHOWN, MAP = "What is shown", "Map and thumbnails"


def report_command(
    vectors: Annotated[Path, typer.Argument(help="Table of vectors.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write, .html.")],
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            help="Table of labels, CSV, TSV or Parquet; again for more.", rich_help_panel=SHOWN,
            show_default="none",
        ),
    ] = None,
    slide_table: Annotated[
        Path | None,
        typer.Option(
            help="Which slides each patient has, for labels of patients.", rich_help_panel=SHOWN,
            show_default="none",
        ),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FILE", help="Predictions of `gigassl probe`, `mil` or other tools; "
            "again for more.", rich_help_panel=SHOWN, show_default="none",
        ),
    ] = None,
    explanations: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of `gigassl explain`; again for other systems, side by side.",
            rich_help_panel=SHOWN, show_default="none",
        ),
    ] = None,
    slides: Annotated[
        Path | None,
        typer.Option(
            help="Folder or CSV of the slides, for thumbnails.", rich_help_panel=SHOWN,
            show_default="none",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Column of the labels that matters most: the map's first colour, and the classes "
            "of the robustness index.", rich_help_panel=SHOWN, show_default="none",
        ),
    ] = None,
    site_column: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of the site, scanner or batch; again for more.", rich_help_panel=SHOWN,
            show_default="TCGA barcodes, resolution",
        ),
    ] = None,
    title: Annotated[
        str,
        typer.Option(
            help="Of the page.", rich_help_panel=SHOWN, show_default="name of the vectors"
        ),
    ] = "",
    umap: Annotated[
        bool, typer.Option(help="A UMAP beside the principal components.", rich_help_panel=MAP)
    ] = True,
    inline_thumbnails: Annotated[
        int,
        typer.Option(
            help="Up to so many slides, thumbnails stand inside the page; else in a folder beside "
            "it.", min=0, rich_help_panel=MAP,
        ),
    ] = 1000,
    workers: Annotated[
        int, typer.Option(help="Threads that read thumbnails.", min=1, rich_help_panel=MAP)
    ] = 4,
    seed: Annotated[
        int, typer.Option(help="Of UMAP, folds and shuffling.", min=0, rich_help_panel=MAP)
    ] = 0,
    json: Json = False,
) -> None:  # fmt: skip
    """Make one HTML page of a cohort: map, nearest slides, outliers, sites, evaluation.

    The page needs no network: send it, or keep it with the paper.
    Hover over the map for a slide, click for its ten nearest.
    """
    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.report import ReportOptions, report_page

    options = ReportOptions(
        labels=tuple(labels or ()), slide_table=slide_table, predictions=tuple(predictions or ()),
        explanations=tuple(explanations or ()), slides=slides, target=target,
        site_columns=tuple(site_column or ()), title=title, umap=umap,
        inline_thumbnails=inline_thumbnails, seed=seed, workers=workers,
    )  # fmt: skip
    with Reporter(what="thumbnails") as progress:
        result = report_page(vectors, out, options=options, progress=progress)
    finish(result, as_json=json)
