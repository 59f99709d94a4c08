"""Variables of a recipe, and its tables with these filled in."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gigassl.errors import SettingsError, unknown_name
from gigassl.pipeline.recipe_values import value_of
from gigassl.urls import is_url

_NAME = re.compile(r"\{([A-Za-z]\w*)\}")
_IF_THERE = "?"


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


def names_in(text: str) -> list[str]:
    """The variables that a text names.

    >>> names_in("{out}/{task}.parquet")
    ['out', 'task']
    """
    return _NAME.findall(text)


def texts_in(value: Any) -> Iterator[str]:
    """All texts of nested tables and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_in(part)


def without(value: Any, absent: Callable[[str], bool]) -> Any:
    """Nested tables and lists without the texts that begin with "?" and name what is absent.

    Of the others of that kind the "?" is dropped: what they name is there.

    >>> without({"a": ["?{x}", "?b", "c"]}, lambda text: "{x}" in text)
    {'a': ['b', 'c']}
    """
    if isinstance(value, dict):
        return {k: without(part, absent) for k, part in value.items() if not _gone(part, absent)}
    if isinstance(value, list):
        return [without(part, absent) for part in value if not _gone(part, absent)]
    return value.removeprefix(_IF_THERE) if isinstance(value, str) else value


def _gone(value: Any, absent: Callable[[str], bool]) -> bool:
    if not (isinstance(value, str) and value.startswith(_IF_THERE)):
        return False
    return absent(value.removeprefix(_IF_THERE))


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
