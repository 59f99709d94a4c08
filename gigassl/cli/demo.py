"""``gigassl demo``: the whole line on slides the project paints itself."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli.result import EXIT_FAILURES

EXAMPLE = "Example: gigassl demo -o demo/   (about a minute on two cores, needs no download)"


def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the demo.")] = Path("demo"),
    slides: Annotated[int, typer.Option(help="How many slides to paint.", min=2)] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the paint.")] = 0,
) -> None:
    """Paint 12 synthetic slides, embed them, and print each one's nearest neighbour."""
    from rich.console import Console
    from rich.table import Table

    from gigassl.pipeline.demo import demo
    from gigassl.pipeline.progress import Reporter

    typer.echo(f"painting {slides} synthetic slides into {out / 'slides'}", err=True)
    with Reporter() as progress:
        done = demo(out, n_slides=slides, seed=seed, progress=progress)
    table = Table("slide", "composition", "arrangement", "tiles", "nearest slide", "similarity")
    hits = 0
    for row in done.slides:
        same = row.nearest_composition == row.composition
        hits += same
        table.add_row(
            row.slide_id, row.composition, row.arrangement, str(row.n_tiles),
            f"{row.nearest.slide_id} ({'same' if same else 'other'} composition)",
            f"{row.nearest.similarity:.4f}",
        )  # fmt: skip
    Console(soft_wrap=True).print(table)
    typer.echo(f"nearest slide has the same composition: {hits} of {len(done.slides)}")
    typer.echo(f"vectors:   {done.result.out}   (gigassl inspect {done.result.out})")
    typer.echo(f"look at:   {out / 'overviews'}   (one picture a slide: tissue and tiles)")
    if done.result.failures:
        raise typer.Exit(EXIT_FAILURES)
