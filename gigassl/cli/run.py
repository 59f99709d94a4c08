"""``gigassl run``: an end-to-end recipe."""

from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli.options import Json
from gigassl.cli.result import finish

EXAMPLE = "Example: gigassl run recipes/needles.toml -o runs/needles"


def run_command(
    recipe: Annotated[Path, typer.Argument(help="TOML file; its head says what it does.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of all results.", show_default="runs/RECIPE"),
    ] = None,
    json: Json = False,
) -> None:
    """Run the steps of a recipe, each a public function with its settings.

    The same command again goes on where it was stopped.
    """
    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.recipe import run_recipe

    with Reporter(what="steps") as progress:
        result = run_recipe(recipe, out or Path("runs") / recipe.stem, progress=progress)
    finish(result, as_json=json)
