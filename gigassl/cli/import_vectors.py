"""``gigassl import-vectors``: other tools' slide vectors into our table."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli.options import Json
from gigassl.cli.result import finish

EXAMPLE = (
    "Example: gigassl import-vectors TCGA_TITAN_features.pkl -o titan.parquet --cohort cohort.csv"
)


def import_vectors_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="embeddings.npy (Giga-SSL, with ids.npy beside it), .h5 or a folder of them "
            "(TRIDENT, STAMP, COBRA), .pkl (TITAN), CSV or Parquet with slide_id."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The Parquet file to write.")],
    encoder: Annotated[
        str, typer.Option(help="What made the vectors.", show_default="as the files say")
    ] = "",
    cohort: Annotated[
        Path | None,
        typer.Option(help="CSV with slide_id and patient_id.", show_default="TCGA rule"),
    ] = None,
    pretrained_on: Annotated[
        Path | None,
        typer.Option(help="CSV with the slide_id of slides that the encoder was pretrained on."),
    ] = None,
    json: Json = False,
) -> None:
    """Import other tools' slide vectors.

    No code of a file is run; a pickle that names more than arrays is refused. Vectors are brought
    to length one, as all of ours are; the column length_before keeps what they had.
    """
    from gigassl.pipeline.import_vectors import ImportOptions, import_vectors
    from gigassl.pipeline.progress import Reporter

    options = ImportOptions(encoder=encoder, cohort=cohort, pretrained_on=pretrained_on)
    with Reporter(what="files") as reporter:
        result = import_vectors(files, out, options=options, progress=reporter)
    finish(result, as_json=json)
