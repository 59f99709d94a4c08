"""``gigassl explain``: which tiles of a slide an answer comes from."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli.options import BagCoordsUnit, BagEncoder, BagMpp, Json
from gigassl.cli.result import finish

EXAMPLE = (
    "Example: gigassl explain bags/ --model mil.parquet --slides slides/ --masks tumour/ -o why/"
)

WHAT, MASKS, RUN = "What is explained", "Comparison with masks", "Run"


def explain_command(
    source: Annotated[Path, typer.Argument(help="Folder, file or CSV of bags.")],
    model: Annotated[
        list[Path],
        typer.Option(
            help="File or folder of models: of `gigassl fit` (with --keep-folds: NAME.folds), of "
            "`gigassl mil --keep-models`, or the predictions that such models lie beside. Again "
            "for more.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    slides: Annotated[
        Path | None,
        typer.Option(help="Folder, file or CSV of the slides, for pictures.", show_default="none"),
    ] = None,
    slide: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this slide; again for more.", rich_help_panel=WHAT, show_default="all"
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            "--class", metavar="predicted|true|NAME", help="The class that is explained.",
            rich_help_panel=WHAT,
        ),
    ] = "predicted",
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Table of predictions with the true classes.", rich_help_panel=WHAT,
            show_default="none",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Which, where --model holds several.", rich_help_panel=WHAT,
            show_default="the only one",
        ),
    ] = None,
    slide_encoder: Annotated[
        Path | None,
        typer.Option(
            help="What made the vectors of a probe.", rich_help_panel=WHAT,
            show_default="the pooling that made them",
        ),
    ] = None,
    include_training: Annotated[
        bool,
        typer.Option(
            "--include-training", help="Also slides that all models learned from; it says so.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of SLIDE_ID.png or .geojson.", rich_help_panel=MASKS, show_default="none"
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Folder of an earlier run with these masks, of another model.",
            rich_help_panel=MASKS, show_default="none",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the shuffled control.", rich_help_panel=MASKS)
    ] = 0,
    restart: Annotated[
        bool, typer.Option("--restart", help="Explain anew what is there.", rich_help_panel=RUN)
    ] = False,
    tile_encoder: BagEncoder = None,
    coords_unit: BagCoordsUnit = None,
    slide_mpp: BagMpp = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Explain slides: a score of each tile, as heatmap, GeoJSON, OME-TIFF and table.

    A linear probe on slide vectors: what each tile adds to the logit. MIL
    models: their attention, or what tiles add where there is none. The
    slide CNN: Grad-CAM. Each slide is explained by a model that never saw
    it or its patient. A killed run goes on where it was.
    """
    from gigassl.pipeline.explain import explain
    from gigassl.pipeline.explain_options import ExplainOptions
    from gigassl.pipeline.progress import Reporter

    options = ExplainOptions(
        models=model, method=method, slide_encoder=slide_encoder, only=slide or (), target=target,
        predictions=predictions, slides=slides, masks=masks, against=against,
        include_training=include_training, restart=restart, seed=seed, bag_encoder=tile_encoder,
        coords_unit=coords_unit, slide_mpp=slide_mpp,
    )  # fmt: skip
    with Reporter() as progress:
        result = explain(source, out, options=options, progress=progress)
    finish(result, as_json=json)
