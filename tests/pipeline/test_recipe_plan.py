"""Which steps of a recipe run again: those of other settings, inputs or outputs than before."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gigassl.errors import SettingsError
from gigassl.pipeline.recipe import RecipeOptions, plan_recipe, run_recipe
from gigassl.pipeline.recipe_places import belongs
from gigassl.pipeline.recipe_result import RecipeResult
from tests.end_to_end.cohorts import save_labels, save_vectors

N = 24
RECIPE = """
title = "Two steps and a set of images"

[variables]
vectors = { means = "vectors", path = true }
labels = { means = "labels", path = true, optional = true }
neighbours = { means = "asked", default = 3 }

[[steps]]
run = "import_vectors"
sources = ["{vectors}"]
out = "vectors.parquet"
options = { encoder = "e" }

[[steps]]
run = "probe"
vectors = ["vectors.parquet"]
out = "probe.parquet"
tasks = [{ labels = "{labels}", target = "grade", split = { folds = 2 } }]
settings = [{ method = "knn", neighbours = "{neighbours}" }]
options = { compare = { draws = 100 } }

[[steps]]
name = "tables"
run = "compare_files"
sources = ["mine={out}/probe.parquet"]
out = "tables"
settings = { draws = 100 }

[[steps]]
name = "needles"
run = "synth_needles"
out = "needles"
settings = { sweep = [{ canvas_px = 16 }], train = 2, validation = 2, test = 2 }
"""


class World:
    """A folder with a recipe, what it asks for, and its results."""

    def __init__(self, folder: Path) -> None:
        self.recipe, self.out = folder / "two.toml", folder / "run"
        self.vectors, self.labels = folder / "theirs.csv", folder / "labels.csv"
        self.recipe.write_text(RECIPE, encoding="utf-8")
        vectors = save_vectors(folder / "v.parquet", N)
        with self.vectors.open("w", newline="") as handle:
            rows = [[f"s{k:04d}", *map(float, row)] for k, row in enumerate(vectors)]
            names = [f"x{k}" for k in range(vectors.shape[1])]
            csv.writer(handle).writerows([["slide_id", *names], *rows])
        self.save_labels("a")

    def save_labels(self, name: str) -> None:
        grades = [f"{name}{k // 2 % 2}" for k in range(N)]
        save_labels(self.labels, {"patient_id": [f"p{k // 2}" for k in range(N)], "grade": grades})

    def options(self, only: tuple[str, ...] | None = None, **given: Any) -> RecipeOptions:
        begin_at = given.pop("begin_at", None)
        known = {"vectors": str(self.vectors), "labels": str(self.labels), **given}
        known = {name: value for name, value in known.items() if value is not None}
        return RecipeOptions(given=known, only=only, begin_at=begin_at)

    def run(self, **given: Any) -> RecipeResult:
        return run_recipe(self.recipe, self.out, options=self.options(**given))

    def plan(self, **given: Any) -> dict[str, tuple[str, str]]:
        plan = plan_recipe(self.recipe, self.out, options=self.options(**given))
        return {step.step.name: (step.state, step.why) for step in plan.steps}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def states(result: RecipeResult) -> dict[str, str]:
    return {step.planned.step.name: step.planned.state for step in result.steps}


def test_steps_run_once_until_something_changes(world: World) -> None:
    assert set(world.plan().values()) == {("due", "not done yet")}
    assert not world.out.exists()
    first = world.run()
    assert set(states(first).values()) == {"due"}
    resolved = json.loads((world.out / "recipe.resolved.json").read_text())
    assert resolved["variables"]["neighbours"] == 3
    probe = resolved["steps"][1]["arguments"]
    assert probe["settings"][0]["inner_folds"] == 3, "what is not said is filled in"
    assert probe["vectors"] == ["{out}/vectors.parquet"]

    files = {path: path.stat().st_mtime_ns for path in world.out.rglob("*.parquet")}
    again = world.run()
    assert set(states(again).values()) == {"up to date"}
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
    assert [step.said for step in again.steps] == [step.said for step in first.steps]

    # the folder may be moved, and an input written again as it was
    world.out = world.out.rename(world.out.with_name("moved"))
    world.vectors.write_bytes(world.vectors.read_bytes())
    moved = world.run()
    assert set(states(moved).values()) == {"up to date"}
    assert "moved/vectors.parquet" in moved.sentence()

    # other labels: the vectors stay, what is made of both does not
    world.save_labels("b")
    plan = world.plan()
    assert plan["import_vectors"] == ("up to date", "")
    assert plan["probe"] == ("due", f"changed: {world.labels}")
    assert plan["tables"] == ("due", "after probe, if that changes anything")
    after = states(world.run())
    assert (after["import_vectors"], after["probe"], after["tables"]) == (
        "up to date",
        "due",
        "due",
    )

    # a setting, by a variable and by its place
    assert world.plan(neighbours="5")["probe"][1] == "changed: settings.0.neighbours 3 → 5"
    asked = world.plan(**{"probe.tasks.0.split.seed": "7"})
    assert asked["probe"][1] == "changed: tasks.0.split.seed 0 → 7"

    # an output that is gone; and the asking to do it again
    (world.out / "probe.parquet").unlink()
    assert world.plan()["probe"] == ("due", "probe.parquet is missing")
    world.run(only=("probe",))
    assert world.plan(begin_at="tables") == {
        "import_vectors": ("up to date", ""), "probe": ("up to date", ""),
        "tables": ("due", "asked for"), "needles": ("due", "asked for"),
    }  # fmt: skip
    assert world.plan(only=("tables",))["probe"] == ("not asked for", "")


def test_what_would_refuse_new_settings_is_made_anew(world: World) -> None:
    world.run(only=("needles",))
    first = sorted(path.name for path in (world.out / "needles").rglob("*.png"))
    keep = world.out / "needles-of-mine.txt"
    keep.write_text("mine")
    more: dict[str, Any] = {"needles.settings.train": "4"}
    plan = plan_recipe(world.recipe, world.out, options=world.options(**more))
    assert plan.steps[3].removes == (world.out / "needles",)
    assert "removes needles first" in plan.sentence()
    world.run(only=("needles",), **more)
    assert len(sorted((world.out / "needles").rglob("*.png"))) > len(first)
    assert keep.read_text() == "mine"


def test_what_a_step_could_not_do_is_done_when_it_can(world: World) -> None:
    good = world.labels.read_text()
    world.labels.write_text(good.replace("grade", "other"))
    with pytest.raises(SettingsError, match="grade"):
        world.run()
    assert world.plan()["import_vectors"] == ("up to date", "")
    assert world.plan()["probe"] == ("due", "was stopped; goes on")
    world.labels.write_text(good)
    assert world.plan()["probe"] == ("due", f"changed: {world.labels}")
    assert states(world.run())["tables"] == "due"


def test_without_an_optional_variable_what_needs_it_is_left_out(world: World) -> None:
    result = world.run(labels=None)
    assert states(result) == {
        "import_vectors": "due", "probe": "left out", "tables": "left out", "needles": "due"
    }  # fmt: skip
    assert "tables, left out (labels not given)" in result.sentence()
    text = RECIPE.replace('["mine={out}/probe.parquet"]', '["?mine={out}/probe.parquet"]')
    world.recipe.write_text(text, encoding="utf-8")
    options = world.options(labels=None)
    plan = plan_recipe(world.recipe, world.out, options=options)
    assert plan.steps[2].state == "due", "it takes what there is"
    assert plan.steps[2].step.arguments["sources"] == ()
    given = plan_recipe(world.recipe, world.out, options=world.options())
    assert given.steps[2].step.arguments["sources"] == (f"mine={world.out}/probe.parquet",)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"vectors.parquet"\noptions', '"/x/vectors.parquet"\noptions', "lie in its folder"),
        ('vectors = ["vectors.parquet"]', 'vectors = ["vector.parquet"]',
         r"step probe: there is no .*vector.parquet, and no earlier step makes it \(they make vec"),
        ('out = "tables"', 'out = "probe.parquet.splits"', "probe and tables both write"),
    ],
)  # fmt: skip
def test_places_that_cannot_be_are_refused(world: World, old: str, new: str, sentence: str) -> None:
    world.recipe.write_text(RECIPE.replace(old, new), encoding="utf-8")
    with pytest.raises(SettingsError, match=sentence):
        world.run()
    assert not world.out.exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"vectors": "/no/such.csv"}, "step import_vectors: there is no /no/such.csv"),
        ({"vectrs": "x"}, "did you mean 'vectors'"),
        ({"prob.settings": "[]"}, "did you mean 'probe'"),
        ({"probe.tasks.3.target": "x"}, "a list of 1, counted from 0, has no '3'"),
        ({"probe.out.x": "1"}, "'probe.parquet' holds no 'x'"),
        ({"neighbours": "many"}, "neighbours must be a whole number; got 'many'"),
        ({"begin_at": "prob"}, "did you mean 'probe'"),
        ({"only": ("table",)}, "did you mean 'tables'"),
    ],
)
def test_what_the_user_gives_is_checked(world: World, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        world.plan(**given)


def test_a_folder_holds_one_recipe(world: World) -> None:
    world.run(only=("needles",))
    other = shutil.copyfile(world.recipe, world.recipe.with_name("other.toml"))
    with pytest.raises(SettingsError, match="the results of the recipe 'two', not of 'other'"):
        plan_recipe(other, world.out, options=world.options())
    path = world.out / "recipe.steps" / "needles.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(SettingsError, match=r"needles\.json is damaged"):
        world.plan()


def test_what_lies_beside_an_output_belongs_to_it() -> None:
    out = Path("r/probe.parquet")
    for name in ("r/probe.parquet", "r/probe.failures.csv", "r/probe.parquet.splits/splits.tsv"):
        assert belongs(Path(name), out), name
    for name in ("r/probes.parquet", "r/x/probe.parquet", "r", "probe.parquet"):
        assert not belongs(Path(name), out), name


def test_the_same_recipe_gives_the_same_bytes(world: World) -> None:
    world.run(only=("needles",))
    first = {path: path.read_bytes() for path in sorted(world.out.rglob("*")) if path.is_file()}
    shutil.rmtree(world.out)
    world.run(only=("needles",))
    assert first == {path: path.read_bytes() for path in sorted(world.out.rglob("*"))
                     if path.is_file()}  # fmt: skip
