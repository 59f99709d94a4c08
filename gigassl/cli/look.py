"""``gigassl doctor`` and ``gigassl inspect``: what is here, and what a file is."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli import options as opt
from gigassl.cli.result import EXIT_FAILURES

DOCTOR_EXAMPLE = "Example: gigassl doctor --encoders"
INSPECT_EXAMPLE = "Example: gigassl inspect vectors.parquet"

_MARK = {True: "ok", False: "MISSING", None: "-"}


def doctor_command(
    encoders: Annotated[
        bool, typer.Option("--encoders", help="List the tile encoders known by name.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show versions, devices, readers and bundled models; what is missing and how to get it."""
    if encoders:
        _list_encoders(as_json=json)
        return
    from dataclasses import asdict

    from gigassl.pipeline.doctor import examine

    checks = examine()
    if json:
        typer.echo(json_module.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            remedy = f"   → {check.remedy}" if check.remedy else ""
            typer.echo(f"{_MARK[check.ok]:8}{check.name:34}{check.found}{remedy}")
    if any(check.ok is False for check in checks):
        raise typer.Exit(EXIT_FAILURES)


def _list_encoders(*, as_json: bool) -> None:
    from gigassl.digests import plain
    from gigassl.tiles.records import ENCODERS

    if as_json:
        typer.echo(json_module.dumps({k: plain(v) for k, v in ENCODERS.items()}, indent=2))
        return
    for name, record in ENCODERS.items():
        access = "gated" if record.gated else "open"
        size = f"{record.input_px} px at {record.mpp:g} µm/px, {record.dim}-d"
        typer.echo(f"{name:24}{size:36}{access:8}{record.licence}")


def inspect_command(
    file: Annotated[
        str, typer.Argument(help="Vectors table, bag, bank, model or slide; or the URL of a file.")
    ],
    mosaic: Annotated[
        Path | None,
        typer.Option(help="Of a bag: write a PNG of all channels of its features, on its grid."),
    ] = None,
    colours: Annotated[
        Path | None,
        typer.Option(
            help="Of a bag: write a PNG of its grid, coloured by three principal components."
        ),
    ] = None,
    geojson: Annotated[
        Path | None,
        typer.Option(help="Of a bag: write its tiles as GeoJSON for QuPath, coloured alike."),
    ] = None,
    storage_options: opt.StorageOptions = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what a file is, what it holds, and where it came from."""
    from gigassl.pipeline.inspection import as_text, draw_bag, inspect
    from gigassl.pipeline.places import brought
    from gigassl.urls import place_of

    with brought([place_of(file)], opt.store_settings(storage_options)) as (local,):
        found = inspect(local)
        if any(wanted is not None for wanted in (mosaic, colours, geojson)):
            draw_bag(local, mosaic=mosaic, colours=colours, geojson=geojson)
    typer.echo(json_module.dumps(found, indent=2, ensure_ascii=False) if json else as_text(found))
