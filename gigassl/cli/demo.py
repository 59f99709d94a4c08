"""``gigassl demo``: the whole line on slides the project paints itself."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli.result import EXIT_FAILURES

EXAMPLE = "Example: gigassl demo -o demo/   (about a minute on two cores, needs no download)"

_LINE = "{:15} {:12} {:12} {:>5}   {:15} {:7} {}"


def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the demo.")] = Path("demo"),
    slides: Annotated[int, typer.Option(help="How many slides to paint.", min=2)] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the paint.")] = 0,
) -> None:
    """Paint 12 synthetic slides, embed them, and print each one's nearest neighbour."""
    from gigassl.pipeline.demo import demo
    from gigassl.pipeline.progress import Reporter

    typer.echo(f"painting {slides} synthetic slides into {out / 'slides'}", err=True)
    with Reporter() as progress:
        done = demo(out, n_slides=slides, seed=seed, progress=progress)
    typer.echo(
        _LINE.format("slide", "composition", "arrangement", "tiles", "nearest", "cosine", "")
    )
    for row in done.slides:
        same = "same composition" if row.nearest_composition == row.composition else ""
        typer.echo(
            _LINE.format(
                row.slide_id, row.composition, row.arrangement, row.n_tiles,
                row.nearest.slide_id, f"{row.nearest.similarity:.4f}", same,
            )
        )  # fmt: skip
    hits = sum(row.nearest_composition == row.composition for row in done.slides)
    typer.echo(f"nearest slide has the same composition: {hits} of {len(done.slides)}")
    typer.echo(f"vectors:   {done.result.out}   (gigassl inspect {done.result.out})")
    typer.echo(f"look at:   {out / 'overviews'}   (one picture a slide: tissue and tiles)")
    if done.result.failures:
        raise typer.Exit(EXIT_FAILURES)
