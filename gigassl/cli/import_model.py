"""``gigassl import-model``: published slide encoders and tile encoders into our formats."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli.options import Json
from gigassl.errors import SettingsError

EXAMPLE = (
    "Example: gigassl import-model scm_gigapath.pth -o slide-encoder.safetensors "
    "--tile-encoder prov-gigapath --mpp 1.0 --pca pca_gigapath.pkl"
)


def import_model_command(
    file: Annotated[
        Path,
        typer.Argument(
            help="Published Giga-SSL checkpoint (.pth), or NIC tile encoder (Keras .h5)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
    tile_encoder: Annotated[
        str,
        typer.Option(
            help="Tile encoder that a slide encoder was trained on.", show_default="unknown"
        ),
    ] = "",
    mpp: Annotated[
        float | None,
        typer.Option(
            help="µm/px at which its tiles were read.", show_default="unknown; 0.5 of .h5"
        ),
    ] = None,
    pca: Annotated[
        Path | None,
        typer.Option(help="Pickled scikit-learn PCA published with it; parsed, never run."),
    ] = None,
    json: Json = False,
) -> None:
    """Import a published slide encoder (scm, mlp) or NIC tile encoder.

    No code of the file is run. Which tile encoder and resolution a slide
    encoder belongs to stands in no published file: say it, so that other
    bags can be refused. The tile encoders of neural image compression
    (encoder_bigan.h5, encoder_multitask-4.h5) need neither Keras nor
    options; the result serves as --tile-encoder.
    """
    from gigassl.tiles.keras_files import SUFFIXES

    if file.suffix.lower() in SUFFIXES:
        if tile_encoder or pca is not None:
            raise SettingsError(
                f"--tile-encoder and --pca belong to slide encoders; {file} is a tile encoder"
            )
        _tile_encoder(file, out, mpp=mpp, json=json)
    else:
        _slide_encoder(file, out, tile_encoder=tile_encoder, mpp=mpp, pca=pca, json=json)


def _tile_encoder(file: Path, out: Path, *, mpp: float | None, json: bool) -> None:
    from gigassl.digests import plain
    from gigassl.pipeline.import_model import import_tile_encoder

    record, digest = import_tile_encoder(file, out, mpp=mpp)
    if json:
        _print_json({"out": str(out), "digest": digest, "record": plain(record)})
        return
    typer.echo(
        f"{out}: {record.name}, tiles of {record.input_px} px at {record.mpp:g} µm/px → "
        f"{record.dim}-d features, digest {digest}"
    )


def _slide_encoder(
    file: Path, out: Path, *, tile_encoder: str, mpp: float | None, pca: Path | None, json: bool
) -> None:
    from gigassl.digests import plain
    from gigassl.pipeline.import_model import import_model

    model = import_model(file, out, tile_encoder=tile_encoder, mpp=mpp, pca=pca)
    record = model.record
    if json:
        _print_json({"out": str(out), "digest": model.digest, "record": plain(record)})
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


def _print_json(found: dict[str, object]) -> None:
    typer.echo(json_module.dumps(found, indent=2, ensure_ascii=False))
