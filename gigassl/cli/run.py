"""``gigassl run``: an end-to-end recipe."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from gigassl.cli.options import Json
from gigassl.cli.result import finish
from gigassl.errors import SettingsError

EXAMPLE = (
    "Example: gigassl run own_cohort --set slides=slides/ --set labels=clinical.csv "
    "--set target=subtype -o runs/mine   (gigassl run --list shows all recipes)"
)


def run_command(
    recipe: Annotated[
        str | None,
        typer.Argument(help="Name of one of our recipes, or a TOML file; see --list."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of all results.", show_default="runs/RECIPE"),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE",
            help="A variable of the recipe, or any argument as STEP.ARGUMENT.FIELD=VALUE.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run nothing; say which steps would run, and why.")
    ] = False,
    begin_at: Annotated[
        str | None,
        typer.Option("--from", metavar="STEP", help="Run this step and all after it once more."),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="STEP,…", help="Run these steps only.", show_default="all"),
    ] = None,
    show: Annotated[
        bool, typer.Option("--list", help="Show the recipes that come with gigassl, or one.")
    ] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Run the steps of a recipe, each a public function with its settings.

    The same command again goes on where it was stopped; steps whose
    settings and inputs are what they were are not run again.
    """
    if show or recipe is None:
        _show(recipe, json=json)
        return
    from gigassl.pipeline.mil_progress import MilReporter
    from gigassl.pipeline.progress import Reporter
    from gigassl.pipeline.recipe import RecipeOptions, plan_recipe, run_recipe
    from gigassl.pipeline.training_progress import TrainingReporter

    folder = out or Path("runs") / Path(recipe).stem
    options = RecipeOptions(
        given=_given(given or []), begin_at=begin_at,
        only=None if only is None else tuple(name.strip() for name in only.split(",")),
    )  # fmt: skip
    if dry_run:
        finish(plan_recipe(recipe, folder, options=options), as_json=json)
    with Reporter() as progress, TrainingReporter() as training, MilReporter() as mil:
        result = run_recipe(recipe, folder, options=options, told=(progress, training, mil))
    finish(result, as_json=json)


def _given(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise SettingsError(f"--set wants NAME=VALUE, such as slides=slides/; got '{text}'")
        if name in found:
            raise SettingsError(f"--set {name} is given twice")
        found[name] = value
    return found


def _show(recipe: str | None, *, json: bool) -> None:
    """Prints the recipes that there are, or all that one says of itself."""
    from gigassl.pipeline.recipe_file import find_recipe, our_recipes, read_file

    shown = [read_file(path) for path in ([find_recipe(recipe)] if recipe else our_recipes())]
    if json:
        found = [
            {
                "name": each.path.stem, "title": each.title, "promise": each.promise,
                "variables": {name: each.variables[name].means for name in each.variables},
            }
            for each in shown
        ]  # fmt: skip
        typer.echo(json_module.dumps(found, indent=2, ensure_ascii=False))
        return
    for each in shown:
        if recipe:
            typer.echo(each.promise)
        else:
            typer.echo(f"{each.path.stem:16} {each.title}")
        for name, variable in each.variables.items():
            typer.echo(f"    --set {name}=…  {variable.means}{variable.need()}")
    if not recipe:
        typer.echo(
            "\ngigassl run --list NAME says more of one; gigassl run NAME --dry-run its steps"
        )
