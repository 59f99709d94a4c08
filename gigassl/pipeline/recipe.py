"""Recipes: public functions of gigassl in a row, with their arguments, in one TOML file."""

import inspect
import shutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from gigassl.errors import SettingsError, unknown_name
from gigassl.files import written_whole
from gigassl.pipeline.output import make_folder
from gigassl.pipeline.progress import Progress, Silent
from gigassl.pipeline.recipe_values import value_of

STEPS: Mapping[str, str] = {
    "needle_curve": "gigassl.pipeline.needles",
    "synth_needles": "gigassl.pipeline.synth_needles",
    "synth_nic": "gigassl.pipeline.synth_nic",
    "task_subsets": "gigassl.pipeline.task_subsets",
}
"""What a recipe may run: public function → its module. Each takes ``out`` and ``progress``, goes on
where it was stopped, and returns a result with ``sentence()``, ``summary()``, ``failures`` and
``interrupted``."""

_OURS = {"progress", "workers"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One function to run.

    Attributes:
        name: of the function, one of ``STEPS``.
        arguments: everything but ``progress``, of the types that the function asks for.
    """

    name: str
    arguments: Mapping[str, Any]

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself."""
        return _function(self.name)


@dataclass(frozen=True, kw_only=True)
class RecipeResult:
    """How a recipe ended.

    Attributes:
        title: of the recipe.
        out: folder of all results.
        results: of the steps that ran: name and what the function returned.
    """

    title: str
    out: Path
    results: tuple[tuple[str, Any], ...]

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped it; what was done is kept."""
        return any(result.interrupted for _, result in self.results)

    @property
    def failures(self) -> Sequence[object]:
        """What the steps could not use."""
        return [failure for _, result in self.results for failure in result.failures]

    def sentence(self) -> str:
        """What happened, for people."""
        said = [f"{name}: {result.sentence()}" for name, result in self.results]
        return "\n\n".join([self.title, *said])

    def summary(self) -> dict[str, Any]:
        """What happened, for machines."""
        return {
            "title": self.title,
            "out": str(self.out),
            "interrupted": self.interrupted,
            "steps": [{"run": name, **result.summary()} for name, result in self.results],
        }


def run_recipe(recipe: Path, out: Path, *, progress: Progress | None = None) -> RecipeResult:
    """Runs the steps of a recipe one after the other; a run that was stopped goes on.

    A recipe has a ``title`` and a list ``steps``. Each step names a function, ``run``, and its
    arguments. Relative paths start at ``out``. All steps are understood before the first one runs.

    Args:
        recipe: TOML file.
        out: folder of all results; a copy of the recipe is put there.
        progress: told by each step.

    Raises:
        SettingsError: no such file, or one that does not say what can be run.
        MachineError: the folder cannot be written to.
    """
    title, steps = read_recipe(recipe, out=out)
    make_folder(out)
    with written_whole(out / "recipe.toml") as part:
        shutil.copyfile(recipe, part)
    results: list[tuple[str, Any]] = []
    for step in steps:
        result = step.function(**step.arguments, progress=progress or Silent())
        results.append((step.name, result))
        if result.interrupted:
            break
    return RecipeResult(title=title, out=out, results=tuple(results))


def read_recipe(recipe: Path, *, out: Path) -> tuple[str, tuple[Step, ...]]:
    """Title and steps of a recipe; nothing is run.

    Args:
        recipe: TOML file.
        out: where relative paths start.

    Raises:
        SettingsError: see ``run_recipe``.
    """
    if not recipe.is_file():
        raise SettingsError(f"no such recipe: {recipe}")
    try:
        said = tomllib.loads(recipe.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{recipe} is no TOML file: {error}") from error
    for key in said.keys() - {"title", "steps"}:
        raise unknown_name(f"key of the recipe {recipe.name}", key, known=["title", "steps"])
    steps = said.get("steps")
    if not isinstance(steps, list) or not steps:
        raise SettingsError(f"{recipe} names no [[steps]]")
    return str(said.get("title", recipe.stem)), tuple(_step(step, out=out) for step in steps)


def _step(said: Any, *, out: Path) -> Step:
    name = said.get("run") if isinstance(said, dict) else None
    if not isinstance(name, str):
        raise SettingsError(f'each of the steps says run = "…", one of {", ".join(sorted(STEPS))}')
    function = _function(name)
    hints = get_type_hints(function)
    known = {n: p for n, p in inspect.signature(function).parameters.items() if n not in _OURS}
    arguments = {}
    for key, value in said.items():
        if key == "run":
            continue
        if key not in known:
            raise unknown_name(f"argument of {name}", key, known=known)
        arguments[key] = value_of(value, hints[key], where=f"{name}.{key}", folder=out)
    lacking = [n for n, p in known.items() if p.default is p.empty and n not in arguments]
    if lacking:
        raise SettingsError(f"{name} also needs {', '.join(lacking)}")
    return Step(name=name, arguments=arguments)


def _function(name: str) -> Callable[..., Any]:
    if name not in STEPS:
        raise unknown_name("step", name, known=STEPS)
    function: Callable[..., Any] = getattr(import_module(STEPS[name]), name)
    return function
