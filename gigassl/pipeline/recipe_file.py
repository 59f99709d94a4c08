"""A recipe as a file: its promise, the variables it asks for, and its steps as plain tables."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from gigassl.errors import SettingsError, unknown_name
from gigassl.pipeline.recipe_values import value_of
from gigassl.urls import is_url

OUT = "out"
"""The variable that every recipe has: the folder of its results."""

_KEYS = ["title", "variables", "steps"]
_NAME = re.compile(r"\{([A-Za-z]\w*)\}")
_SUFFIX = ".toml"


@dataclass(frozen=True, kw_only=True)
class Variable:
    """What a recipe asks of its user.

    Attributes:
        means: what to give, in a few words.
        path: whether it is a path; relative ones then start where the command is given.
        many: whether it is several, separated by commas.
        optional: whether it may be missing; the steps that use it are then left out.
        default: its value where none is given.
    """

    means: str
    path: bool = False
    many: bool = False
    optional: bool = False
    default: Any = None

    def need(self) -> str:
        """Whether it must be given, in words."""
        if self.default is not None:
            return f" (else {self.default})"
        return " (may be left away)" if self.optional else ""

    def value(self, given: Any, *, name: str) -> Any:
        """What was given, as a path or as the kind of value that the default is.

        Raises:
            SettingsError: a value of another kind.
        """
        if not isinstance(given, str):
            return given
        if self.many:
            one = replace(self, many=False)
            return [one.value(part.strip(), name=name) for part in given.split(",")]
        if self.path:
            return given if is_url(given) else str(Path(given).expanduser().absolute())
        if self.default is None or isinstance(self.default, str):
            return given
        return value_of(toml_value(given), type(self.default), where=name, folder=Path())


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


def filled(value: Any, values: Mapping[str, Any]) -> Any:
    """A value with ``{name}`` replaced by the variable; a text of just that becomes its value.

    Raises:
        SettingsError: a name that is no variable.
    """
    if isinstance(value, dict):
        return {key: filled(part, values) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part, values) for part in value]
    if not isinstance(value, str):
        return value
    for name in _NAME.findall(value):
        if name not in values:
            raise unknown_name(f"variable in '{value}'", name, known=values)
    whole = _NAME.fullmatch(value)
    if whole is not None:
        return values[whole[1]]
    return _NAME.sub(lambda found: str(values[found[1]]), value)


def names_in(value: Any) -> Iterator[str]:
    """The variables that a value names."""
    if isinstance(value, dict):
        for part in value.values():
            yield from names_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from names_in(part)
    elif isinstance(value, str):
        yield from _NAME.findall(value)


def changed(table: Any, path: Sequence[str], value: Any) -> Any:
    """A table with one value, however deep, put in place; lists are counted from 0.

    Raises:
        SettingsError: no such place in a list, or a value with something inside it.
    """
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(table, dict):
        return {**table, head: changed(table.get(head, {}), rest, value)}
    if not isinstance(table, list):
        raise SettingsError(f"{table!r} holds no '{head}'")
    if not (head.isdecimal() and int(head) < len(table)):
        raise SettingsError(f"a list of {len(table)}, counted from 0, has no '{head}'")
    place = int(head)
    return [*table[:place], changed(table[place], rest, value), *table[place + 1 :]]


def toml_value(text: str) -> Any:
    """What TOML makes of a text; the text itself where it makes nothing of it.

    >>> toml_value("3"), toml_value("[1, 2]"), toml_value("abmil")
    (3, [1, 2], 'abmil')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


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
