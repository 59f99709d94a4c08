"""Recipes: values become the types that functions ask for; what cannot run is refused at first."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from gigassl.errors import SettingsError
from gigassl.evaluate.needles.curve import NeedleCurveSettings
from gigassl.pipeline.recipe import RecipeOptions, read_recipe
from gigassl.pipeline.recipe_file import read_file
from gigassl.pipeline.recipe_steps import STEPS
from gigassl.pipeline.recipe_values import value_of
from gigassl.slides.needles import NeedleSettings
from tests.shared_data import REPO_ROOT

RECIPES = sorted((REPO_ROOT / "recipes").glob("*.toml"))


@dataclass(frozen=True, kw_only=True)
class Inner:
    sizes: tuple[int, ...]
    way: Literal["up", "down"] = "up"


@dataclass(frozen=True, kw_only=True)
class Outer:
    parts: tuple[Inner, ...]
    where: Path | None = None
    options: Mapping[str, float] | None = None
    pair: tuple[float, float] = (0.0, 1.0)


def everything_given(recipe: Path) -> RecipeOptions:
    """Options that give every variable of a recipe, so that no step is left out."""
    variables = read_file(recipe).variables
    return RecipeOptions(
        given={name: f"/of/{name}" for name, each in variables.items() if each.default is None}
    )


def understood(value: Any, hint: Any) -> Any:
    return value_of(value, hint, where="it", folder=Path("out"))


def test_tables_become_records() -> None:
    said = {
        "parts": [{"sizes": [1, 2]}, {"sizes": [], "way": "down"}],
        "where": "x/y",
        "options": {"a": 1},
        "pair": [2, 3.5],
    }
    assert understood(said, Outer) == Outer(
        parts=(Inner(sizes=(1, 2)), Inner(sizes=(), way="down")),
        where=Path("out/x/y"),
        options={"a": 1.0},
        pair=(2.0, 3.5),
    )
    assert understood("/abs", Path | None) == Path("/abs")


@pytest.mark.parametrize(
    ("value", "hint", "sentence"),
    [
        ("1", int, "it must be a whole number; got '1'"),
        (1.0, int, "whole number"),
        (True, int, "whole number; got True"),
        (1, bool, "true or false"),
        (3, str, "a text"),
        ({"sizes": [1], "wey": "up"}, Inner, "unknown field of it 'wey'; did you mean 'way'"),
        ({"sizes": [1], "way": "left"}, Inner, "unknown it.way 'left'"),
        ({"way": "up"}, Inner, "missing 1 required keyword-only argument: 'sizes'"),
        ({"sizes": ["a"]}, Inner, r"it.sizes\[0\] must be a whole number"),
        ([1.0], tuple[float, float], "needs 2 values; got 1"),
        ({"parts": {}}, Outer, "it.parts must be a list"),
    ],
)
def test_wrong_values_are_named(value: Any, hint: Any, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        understood(value, hint)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_project_are_understood_and_open_with_their_promise(recipe: Path) -> None:
    known = read_recipe(recipe, out=Path("out"), options=everything_given(recipe))
    assert known.title
    assert known.steps
    assert not any(step.lacking for step in known.steps)
    promise = known.file.promise
    assert f"gigassl run {recipe.stem}" in promise
    for word in ("What:", "Time:"):
        assert f"\n{word}" in promise, word
    head = recipe.read_text(encoding="utf-8").split("\n\ntitle")[0]
    assert all(line.startswith("#") for line in head.splitlines() if line)


def test_the_needle_recipe_means_what_it_says() -> None:
    (step,) = read_recipe("needles", out=Path("out")).steps
    assert step.arguments["out"] == Path("out/curve")
    settings = step.arguments["settings"]
    assert isinstance(settings, NeedleCurveSettings)
    assert settings.sweep[1] == NeedleSettings(canvas_px=32)
    fields = {variant.name: variant.network.field_px for variant in settings.variants}
    assert all(name.endswith(f" {field} px") for name, field in fields.items())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("title = ", "is no TOML file"),
        ("title = 'x'", r"names no \[\[steps\]\]"),
        ("steps = [{out = 'a'}]", 'each of the steps of r.toml says run = "…", a function'),
        ("steps = [{run = 'needle_curve', out = 'a', name = 'b c'}]", "a step's name is a word"),
        ("steps = [{run = 'embed', out = 'b'}, {run = 'embed'}]", "two steps are called 'embed'"),
        ("variables = 1\nsteps = [{run = 'a'}]", "must be a table"),
        ("variables = {a = {}}\nsteps = [{run = 'a'}]", "variables.a: .*'means'"),
        (
            "variables = {out = {means = 'x'}}\nsteps = [{run = 'a'}]",
            "is the folder of the results",
        ),
        (
            "variables = {a = {means = 'x'}}\nsteps = [{run = 'embed'}]",
            r"needs a \(x\); give --set a=…",
        ),
        ("steps = [{run = 'needle_curve', out = '{ouut}'}]", "did you mean 'out'"),
        ("steps = [{run = 'needle_curv', out = 'a'}]", "did you mean 'needle_curve'"),
        ("steps = [{run = 'os.system', command = 'a'}]", "unknown step 'os.system'"),
        ("steps = [{run = 'needle_curve'}]", "needle_curve also needs out"),
        ("steps = [{run = 'needle_curve', out = 'a', seting = {}}]", "did you mean 'settings'"),
        ("steps = [{run = 'needle_curve', out = 1}]", "needle_curve.out must be a text"),
        ("other = 1\nsteps = [{run = 'needle_curve', out = 'a'}]", "unknown key of the recipe"),
    ],
)
def test_what_cannot_run_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=sentence):
        read_recipe(recipe, out=tmp_path)
    with pytest.raises(SettingsError, match="no such recipe"):
        read_recipe(tmp_path / "absent.toml", out=tmp_path)


def test_steps_are_public_names() -> None:
    import gigassl

    assert set(STEPS) <= set(gigassl.__all__)
