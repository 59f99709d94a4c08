"""``gigassl search``: the nearest slides, and how often they are of the same class."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gigassl.cli import options as opt
from gigassl.cli.result import finish
from gigassl.errors import SettingsError

if TYPE_CHECKING:
    from gigassl.pipeline.search_query import QueryOptions

FILTER, SHEET, NEW, METRICS = "Filter", "Contact sheet", "A new slide", "Metrics"
EXAMPLE = (
    "Example: gigassl search vectors.parquet SLIDE_ID --where \"project == 'LUAD'\" --labels "
    "labels.csv --sheet near.html --slides slides/"
)


def search_command(
    vectors: Annotated[Path, typer.Argument(help="Table of slide vectors.")],
    query: Annotated[
        str | None,
        typer.Argument(
            help="A slide_id of the table, a new slide file, other.parquet#SLIDE_ID, or a .npy "
            "file of one vector."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Hits.", min=1)] = 10,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File for the hits (.csv, .parquet) or metrics (.csv)."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            help="Condition on columns of the table and of --labels: \"project == 'LUAD' and "
            "n_tiles > 100\"; also != < <= >= or not in (…) is null, `a column`.",
            rich_help_panel=FILTER,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Table of labels of slides or patients (CSV, TSV, Parquet).",
            rich_help_panel=FILTER,
        ),
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated columns to show.", rich_help_panel=FILTER,
            show_default="those of --where and the first of --labels",
        ),
    ] = None,
    exclude_patient: Annotated[
        bool,
        typer.Option(
            "--exclude-patient", help="Leave out the slides of the query's patient.",
            rich_help_panel=FILTER,
        ),
    ] = False,
    index: Annotated[
        Literal["auto", "exact", "ivf", "hnsw"],
        typer.Option(help="How it is searched; a single query is quickest exactly (auto)."),
    ] = "auto",
    sheet: Annotated[
        Path | None,
        typer.Option(help="Pictures of query and hits: .png or .html.", rich_help_panel=SHEET),
    ] = None,
    slides: Annotated[
        Path | None,
        typer.Option(help="Folder or CSV of the slides, for pictures.", rich_help_panel=SHEET),
    ] = None,
    slide_dir: opt.SlideDir = None,
    slide_mpp: Annotated[
        float | None,
        typer.Option(
            help="µm/px of a new slide whose file does not say it.", rich_help_panel=NEW,
            show_default="what the table was made with",
        ),
    ] = None,
    tile_encoder: Annotated[
        str | None,
        typer.Option(
            help="Where the weights of the tile encoder are, if the table names only a file.",
            rich_help_panel=NEW, show_default="what the table says",
        ),
    ] = None,
    slide_encoder: Annotated[
        str | None,
        typer.Option(
            help="File of the slide encoder, if the table was made by one.", rich_help_panel=NEW
        ),
    ] = None,
    device: opt.Device = "auto",
    masks: opt.Masks = None,
    workers: opt.Workers = None,
    metrics: Annotated[
        bool,
        typer.Option(
            "--metrics",
            help="Search for every slide among those of other patients, and say how often the "
            "nearest are of its class.",
            rich_help_panel=METRICS,
        ),
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            help="Column of the class in --labels.", rich_help_panel=METRICS, show_default="label"
        ),
    ] = None,
    at: Annotated[
        str, typer.Option(help="Numbers of nearest slides.", rich_help_panel=METRICS)
    ] = "1,3,5,10",
    draws: Annotated[
        int, typer.Option(help="Bootstrap draws of patients.", min=100, rich_help_panel=METRICS)
    ] = 1000,
    seed: Annotated[
        int, typer.Option(help="Of draws and chance.", min=0, rich_help_panel=METRICS)
    ] = 0,
    json: opt.Json = False,
) -> None:  # fmt: skip
    """Search: the slides most similar to one, by cosine of their vectors.

    Conditions hold before hits are counted, so that -k of them are found
    wherever so many slides satisfy them. A new slide is embedded with the
    settings that the table's provenance holds.
    """
    from gigassl.pipeline.search_query import QueryOptions

    if metrics:
        if query is not None or sheet is not None or exclude_patient:
            raise SettingsError(
                "--metrics searches for every slide, never among those of its own patient; leave "
                "QUERY, --sheet and --exclude-patient away"
            )
        _metrics(vectors, out, labels=labels, target=target, where=where, at=at, draws=draws,
                 seed=seed, json=json)  # fmt: skip
    if query is None:
        raise SettingsError("give a QUERY to search for, or --metrics to measure all searches")
    if target is not None:
        raise SettingsError("--target belongs to --metrics; --show names columns to show")
    new = QueryOptions(
        slide_mpp=slide_mpp, encoder=tile_encoder, slide_encoder=slide_encoder, device=device,
        workers=workers, masks=masks,
    )  # fmt: skip
    _hits(
        vectors, query, out, sheet=sheet, k=k, where=where, labels=labels,
        show=None if show is None else _split(show), exclude_patient=exclude_patient, index=index,
        slides=slides, slide_dir=slide_dir, new=new, json=json,
    )  # fmt: skip


def _hits(
    vectors: Path, query: str, out: Path | None, *, sheet: Path | None, k: int, where: str | None,
    labels: Path | None, show: list[str] | None, exclude_patient: bool, index: str,
    slides: Path | None, slide_dir: Path | None, new: "QueryOptions", json: bool,
) -> None:  # fmt: skip
    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.search import SearchOptions, search

    options = SearchOptions(
        k=k, where=where, labels=labels, show=show, exclude_patient=exclude_patient, index=index,
        slides=slides, slide_dir=slide_dir, new=new,
    )  # fmt: skip
    with Reporter() as progress:
        result = search(vectors, query, out, sheet=sheet, options=options, progress=progress)
    finish(result, as_json=json)


def _metrics(
    vectors: Path, out: Path | None, *, labels: Path | None, target: str | None, where: str | None,
    at: str, draws: int, seed: int, json: bool,
) -> None:  # fmt: skip
    from gigassl.evaluate.bootstrap import BootstrapSettings
    from gigassl.pipeline.search_metrics import RetrievalOptions, retrieval

    if labels is None:
        raise SettingsError("--metrics needs the classes of the slides: --labels FILE")
    wrong = [text for text in _split(at) if not text.isdecimal()]
    if wrong or not _split(at):
        raise SettingsError(f"--at is a list of whole numbers such as 1,3,5,10; got '{at}'")
    options = RetrievalOptions(
        labels=labels, target=target, where=where, ks=sorted({int(text) for text in _split(at)}),
        bootstrap=BootstrapSettings(draws=draws, seed=seed),
    )  # fmt: skip
    finish(retrieval(vectors, out, options=options), as_json=json)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
