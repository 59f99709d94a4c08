"""``gigassl demo``: the whole line on slides the project paints itself."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli.result import EXIT_FAILURES

EXAMPLE = "Example: gigassl demo -o demo/   (about two minutes on two cores, needs no download)"

_LINE = "{:11} {:12} {:12} {:>5}   {:18}   {:18}"


def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the demo.")] = Path("demo"),
    slides: Annotated[int, typer.Option(help="How many slides to paint.", min=4)] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the paint.")] = 0,
) -> None:
    """Paint slides, embed them, train a slide encoder without labels, compare.

    Prints each slide's nearest neighbour by the mean of its tiles and by
    the slide encoder that was trained on the same slides; then what both
    are worth with few labels, beside controls and a MIL model.
    """
    from gigassl.pipeline.demo import demo
    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.training_progress import TrainingReporter

    typer.echo(f"painting {slides} synthetic slides into {out / 'slides'}", err=True)
    with Reporter() as progress, TrainingReporter() as monitor:
        done = demo(out, n_slides=slides, seed=seed, progress=progress, monitor=monitor)
    header = ("slide", "composition", "arrangement", "tiles", "nearest by mean", "nearest learned")
    typer.echo(_LINE.format(*header))
    for row in done.slides:
        typer.echo(
            _LINE.format(
                row.slide_id, row.composition, row.arrangement, row.n_tiles,
                f"{row.by_mean.slide_id} {row.by_mean.similarity:.4f}",
                f"{row.by_learned.slide_id} {row.by_learned.similarity:.4f}",
            )
        )  # fmt: skip
    hits, n_slides = done.hits, len(done.slides)
    typer.echo(
        f"nearest slide has the same composition: mean of tiles {hits['mean']} of {n_slides}, "
        f"slide encoder trained without labels {hits['learned']} of {n_slides} "
        "(so few slides show that it runs, not which is better)"
    )
    for method, auc in done.scores.items():
        typer.echo(f"AUC of the composition, 2 folds: {auc:.2f}  {method}")
    typer.echo(f"vectors:   {done.learned.out} and {done.mean.out}   (gigassl inspect shows them)")
    typer.echo(f"look at:   {out / 'overviews'}   (one picture a slide: tissue and tiles)")
    typer.echo(f"           {done.training.folder / 'curves.png'}   (how the training went)")
    if done.worth is not None:
        tables = out / "worth" / "comparison.md"
        typer.echo(f"           {tables} and learning_curve.png   (probes, controls and MIL)")
    if done.report is None:
        typer.echo("           no report: pip install 'gigassl[report]' and run this again")
    else:
        typer.echo(f"open:      {done.report}   (all of it on one page, in your browser)")
    if alarm := done.training.alarm():
        typer.echo(alarm, err=True)
    if done.failures or alarm:
        raise typer.Exit(EXIT_FAILURES)
