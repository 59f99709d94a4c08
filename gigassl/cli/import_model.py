"""``gigassl import-model``: published slide encoders into our format."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli.options import Json

EXAMPLE = (
    "Example: gigassl import-model scm_gigapath.pth -o slide-encoder.safetensors "
    "--tile-encoder prov-gigapath --mpp 1.0 --pca pca_gigapath.pkl"
)


def import_model_command(
    file: Annotated[Path, typer.Argument(help="Published Giga-SSL checkpoint (.pth).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
    tile_encoder: Annotated[
        str, typer.Option(help="Tile encoder it was trained on.", show_default="unknown")
    ] = "",
    mpp: Annotated[
        float | None,
        typer.Option(help="µm/px at which its tiles were read.", show_default="unknown"),
    ] = None,
    pca: Annotated[
        Path | None,
        typer.Option(help="Pickled scikit-learn PCA published with it; parsed, never run."),
    ] = None,
    json: Json = False,
) -> None:
    """Import a published Giga-SSL slide encoder (scm or mlp).

    No code of the file is run. Which tile encoder and resolution it belongs to stands in no
    published file: say it, so that other bags can be refused.
    """
    from gigassl.digests import plain
    from gigassl.pipeline.import_model import import_model

    model = import_model(file, out, tile_encoder=tile_encoder, mpp=mpp, pca=pca)
    record = model.record
    if json:
        found = {"out": str(out), "digest": model.digest, "record": plain(record)}
        typer.echo(json_module.dumps(found, indent=2, ensure_ascii=False))
        return
    reduced = "" if model.reduction is None else f" (PCA to {len(model.reduction.components)})"
    typer.echo(
        f"{out}: {record.architecture}, {record.dim}-d tiles{reduced} → {record.width}-d vectors, "
        f"digest {model.digest}"
    )
    unsaid = [
        option
        for option, value in {"--tile-encoder": tile_encoder, "--mpp": mpp}.items()
        if not value
    ]
    if unsaid:
        typer.echo(
            f"without {' and '.join(unsaid)} only the width of bags is checked, not where they "
            "come from",
            err=True,
        )
