"""Recipes: public functions of gigassl in a row, with their arguments, in one TOML file."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gigassl.errors import SettingsError, unknown_name
from gigassl.files import written_whole
from gigassl.pipeline.output import claimed
from gigassl.pipeline.recipe_file import RecipeFile, find_recipe, read_file
from gigassl.pipeline.recipe_places import (
    MAIN,
    belongs,
    check_places,
    outputs_of,
    plain_arguments,
)
from gigassl.pipeline.recipe_plan import PlannedStep, Planner
from gigassl.pipeline.recipe_record import (
    RECIPE,
    RESOLVED,
    begin,
    finished,
    read_record,
    record_path,
    remembered,
    save_json,
    save_record,
)
from gigassl.pipeline.recipe_result import RecipePlan, RecipeResult, StepResult
from gigassl.pipeline.recipe_steps import Step, arguments_of, function_of
from gigassl.pipeline.recipe_variables import (
    changed,
    filled,
    names_in,
    texts_in,
    toml_value,
    without,
)
from gigassl.report.page.figure import needs

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """What a recipe is run with.

    Attributes:
        given: values of its variables, and of any argument as ``STEP.ARGUMENT.FIELD``; texts mean
            what they would in TOML.
        begin_at: step that runs again, with all after it, even if nothing has changed.
        only: steps to run; the others are left as they are. None for all.
    """

    given: Mapping[str, Any] = field(default_factory=dict)
    begin_at: str | None = None
    only: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A recipe with all that its user gave it.

    Attributes:
        file: as it was read.
        values: of its variables.
        steps: to run, in this order; each understood and with its defaults.
    """

    file: RecipeFile
    values: Mapping[str, Any]
    steps: tuple[Step, ...]

    @property
    def title(self) -> str:
        """What it does, in one line."""
        return self.file.title

    def resolved(self, out: Path) -> dict[str, Any]:
        """All settings, defaults too, as JSON has them."""
        return {
            "recipe": self.file.path.stem,
            "title": self.title,
            "variables": {name: value for name, value in self.values.items() if name != "out"},
            "steps": [
                {
                    "name": step.name,
                    "run": step.run,
                    "left_out_for": list(step.lacking),
                    "arguments": plain_arguments(step, out=out),
                }
                for step in self.steps
            ],
        }


def run_recipe(
    recipe: Path | str, out: Path, *, options: RecipeOptions | None = None,
    told: Sequence[object] = (),
) -> RecipeResult:  # fmt: skip
    """Runs the steps of a recipe one after the other; a run that was stopped goes on.

    All steps are understood, and their inputs looked for, before the first one runs. A step whose
    settings and inputs are what they were, and whose output is there, is not run again. Relative
    paths in a recipe start at ``out``.

    Args:
        recipe: TOML file, or the name of one of ours.
        out: folder of all results, of the recipe and its resolved settings, and of what is known
            of each step.
        options: variables, and which steps.
        told: progress reporters and monitors; each step takes those that it knows.

    Raises:
        SettingsError: no such file, or one that does not say what can be run.
        BusyError: another run writes to the same folder.
        MachineError: the folder cannot be written to.
    """
    options = options or RecipeOptions()
    known = _checked(recipe, out, options)
    planner = Planner(out, begin_at=options.begin_at, only=options.only, ahead=False)
    results: list[StepResult] = []
    with claimed(out / RECIPE):
        with written_whole(out / RECIPE) as part:
            shutil.copyfile(known.file.path, part)
        save_json(known.resolved(out), out / RESOLVED)
        for number, step in enumerate(known.steps, start=1):
            planned = planner.decide(step)
            log.info("step %d of %d, %s", number, len(known.steps), _announced(planned))
            results.append(_carried_out(planned, out, told=tuple(told)))
            if results[-1].interrupted:
                break
    return RecipeResult(title=known.title, out=out, steps=tuple(results))


def plan_recipe(
    recipe: Path | str, out: Path, *, options: RecipeOptions | None = None
) -> RecipePlan:
    """What ``run_recipe`` would do, and why; nothing is run or written.

    Raises:
        SettingsError: as ``run_recipe``.
    """
    options = options or RecipeOptions()
    known = _checked(recipe, out, options)
    planner = Planner(out, begin_at=options.begin_at, only=options.only, ahead=True)
    steps = tuple(planner.decide(step) for step in known.steps)
    return RecipePlan(title=known.title, out=out, steps=steps)


def read_recipe(recipe: Path | str, *, out: Path, options: RecipeOptions | None = None) -> Recipe:
    """A recipe with its variables filled in; nothing is run.

    Args:
        recipe: TOML file, or the name of one of ours.
        out: where relative paths start.
        options: variables, and which steps.

    Raises:
        SettingsError: see ``run_recipe``.
    """
    options = options or RecipeOptions()
    file = read_file(recipe if isinstance(recipe, Path) else find_recipe(recipe))
    tables = _tables(file, options.given)
    for name in (*(options.only or ()), *([options.begin_at] if options.begin_at else [])):
        if name not in tables:
            raise unknown_name("step", name, known=tables)
    variables = {name: value for name, value in options.given.items() if "." not in name}
    values = file.values(variables, out=out)
    return Recipe(file=file, values=values, steps=_steps(tables, values=values, out=out))


def _checked(recipe: Path | str, out: Path, options: RecipeOptions) -> Recipe:
    """A recipe whose inputs are there, for a folder that holds no other one's results."""
    known = read_recipe(recipe, out=out, options=options)
    running = [step for step in known.steps if not step.lacking]
    check_places(running, out=out)
    for step in running:
        if options.only is None or step.name in options.only:
            needs(*step.kind.packages)  # now, rather than after days
    path, name = out / RESOLVED, known.file.path.stem
    if path.is_file():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))["recipe"]
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{path} is damaged ({error}); remove it") from error
        if earlier != name:
            raise SettingsError(
                f"{out} holds the results of the recipe '{earlier}', not of '{name}'; choose "
                "another -o"
            )
    return known


def _tables(file: RecipeFile, given: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The steps by name, with the changes that the user asked for."""
    tables: dict[str, Mapping[str, Any]] = {}
    for step in file.steps:
        function_of(step["run"])
        name = step.get("name", step["run"])
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
            raise SettingsError(f"a step's name is a word; got {name!r}")
        if name in tables:
            raise SettingsError(f"two steps are called '{name}'; give one another name = \"…\"")
        tables[name] = {key: value for key, value in step.items() if key != "name"}
    for path, value in given.items():
        name, *places = path.split(".")
        if not places:
            continue
        if name not in tables:
            raise unknown_name("step", name, known=tables)
        said = toml_value(value) if isinstance(value, str) else value
        tables[name] = changed(tables[name], places, said)
    return tables


def _steps(
    tables: Mapping[str, Mapping[str, Any]], *, values: Mapping[str, Any], out: Path
) -> tuple[Step, ...]:
    """The steps, each with its arguments; those that lack a variable, or such a step, with that."""
    found: list[Step] = []
    for name, table in tables.items():
        run = str(table["run"])
        absent = _Absent(values, [step for step in found if step.lacking], out=out)
        said = without({key: part for key, part in table.items() if key != "run"}, absent)
        lacking = tuple(dict.fromkeys(each for text in texts_in(said) for each in absent.of(text)))
        if lacking:  # only where it would have written matters still
            said = {key: said[key] for key in MAIN if key in said}
            arguments = {key: out / str(filled(said[key], values)) for key in said}
        else:
            arguments = arguments_of(run, filled(said, values), out=out)
        found.append(Step(name=name, run=run, arguments=arguments, lacking=lacking))
    return tuple(found)


class _Absent:
    """What is not there in this run: variables that were not given, outputs of steps left out."""

    def __init__(self, values: Mapping[str, Any], left_out: Sequence[Step], *, out: Path) -> None:
        self._values, self._left_out, self._out = values, left_out, out

    def __call__(self, text: str) -> bool:
        """Whether a text names something that is not there."""
        return bool(self.of(text))

    def of(self, text: str) -> tuple[str, ...]:
        """The variables that lack for what a text names."""
        names = tuple(each for each in names_in(text) if self._values.get(each, "") is None)
        if names:
            return names
        path = self._out / str(filled(text, self._values)).rpartition("=")[2]
        for step in self._left_out:
            if any(belongs(path, output) for output in outputs_of(step)):
                return step.lacking
        return ()


def _announced(planned: PlannedStep) -> str:
    why = f" ({planned.why})" if planned.why else ""
    state = "runs" if planned.state == "due" else planned.state
    return f"{planned.step.name}: {state}{why}"


def _carried_out(planned: PlannedStep, out: Path, *, told: tuple[object, ...]) -> StepResult:
    """Runs a step that is due; else says what it said when it ran."""
    path = record_path(out, planned.step)
    if planned.state != "due":
        before = read_record(path) if planned.state == "up to date" else None
        if before is None:
            return StepResult(planned=planned)
        known = remembered(before, out=out)
        return StepResult(
            planned=planned, said=known.said, summary=known.summary, failures=known.failures
        )
    record = begin(planned.step, out=out, removes=planned.removes)
    result = planned.step.carry_out(told)
    if not result.interrupted:
        save_record(finished(record, result, out=out), path)
    return StepResult(
        planned=planned, said=result.sentence(), summary=result.summary(),
        failures=result.failures, interrupted=result.interrupted,
    )  # fmt: skip
