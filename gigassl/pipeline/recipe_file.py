"""A recipe as a file: its promise, the variables it asks for, and its steps as plain tables."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from gigassl.errors import SettingsError, unknown_name
from gigassl.pipeline.recipe_values import value_of
from gigassl.pipeline.recipe_variables import Variable

OUT = "out"
"""The variable that every recipe has: the folder of its results."""

_KEYS = ["title", "variables", "steps"]
_SUFFIX = ".toml"


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """A recipe as its file has it; nothing is looked up or filled in.

    Attributes:
        path: the file.
        title: of the recipe.
        promise: the comment that it opens with.
        variables: what it asks for.
        steps: tables of ``run`` and arguments.
    """

    path: Path
    title: str
    promise: str
    variables: Mapping[str, Variable]
    steps: tuple[Mapping[str, Any], ...]

    def values(self, given: Mapping[str, Any], *, out: Path) -> dict[str, Any]:
        """The value of each variable; of optional ones that were not given, None.

        Raises:
            SettingsError: unknown variables, or missing ones, each with what it means.
        """
        for name in given:
            if name not in self.variables:
                raise unknown_name(f"variable of {self.path.name}", name, known=self.variables)
        missing = [
            f"{name} ({variable.means})"
            for name, variable in self.variables.items()
            if name not in given and variable.default is None and not variable.optional
        ]
        if missing:
            said = " ".join(f"--set {each.split()[0]}=…" for each in missing)
            raise SettingsError(f"{self.path.name} needs {', '.join(missing)}; give {said}")
        values = {
            name: variable.value(given[name], name=name) if name in given else variable.default
            for name, variable in self.variables.items()
        }
        return {**values, OUT: str(out)}


def read_file(path: Path) -> RecipeFile:
    """Reads a recipe.

    Raises:
        SettingsError: no such file, or one that is no recipe.
    """
    try:
        text = path.read_text(encoding="utf-8")
        said = tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"no such recipe: {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path} is no TOML file: {error}") from error
    for key in said.keys() - set(_KEYS):
        raise unknown_name(f"key of the recipe {path.name}", key, known=_KEYS)
    steps = said.get("steps")
    if not isinstance(steps, list) or not steps:
        raise SettingsError(f"{path} names no [[steps]]")
    for step in steps:
        if not isinstance(step, dict) or not isinstance(step.get("run"), str):
            raise SettingsError(f'each of the steps of {path.name} says run = "…", a function')
    return RecipeFile(
        path=path, title=str(said.get("title", path.stem)), promise=_promise(text),
        variables=_variables(said.get("variables", {})), steps=tuple(steps),
    )  # fmt: skip


def find_recipe(name: str) -> Path:
    """A recipe by its path, or one of ours by its name.

    Raises:
        SettingsError: neither.
    """
    if Path(name).is_file():
        return Path(name)
    ours = {path.stem: path for path in our_recipes()}
    if "/" in name or name.endswith(_SUFFIX):
        raise SettingsError(f"no such recipe: {name}; ours are {', '.join(sorted(ours))}")
    if name not in ours:
        raise unknown_name("recipe", name, known=ours)
    return ours[name]


def our_recipes() -> list[Path]:
    """The recipes that come with gigassl: in the package of a wheel, beside it in a checkout."""
    package = Path(str(files("gigassl")))
    return sorted((package / "recipes").glob(f"*{_SUFFIX}")) or sorted(
        (package.parent / "recipes").glob(f"*{_SUFFIX}")
    )


def _promise(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(lines)


def _variables(said: Any) -> dict[str, Variable]:
    if not isinstance(said, dict):
        raise SettingsError(f"[variables] must be a table; got {said!r}")
    if OUT in said:
        raise SettingsError(f"'{OUT}' is the folder of the results, and no variable of a recipe")
    return {
        name: value_of(table, Variable, where=f"variables.{name}", folder=Path())
        for name, table in said.items()
    }
