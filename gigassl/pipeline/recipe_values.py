"""Values of a TOML file as the types that functions and settings records ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gigassl.errors import SettingsError, unknown_name
from gigassl.pipeline.recipe_presets import preset_of
from gigassl.urls import is_url


def value_of(value: Any, hint: Any, *, where: str, folder: Path) -> Any:
    """A plain value as a type: records from tables, tuples from lists, paths from text.

    Nothing is guessed: a text is no number, and 1 is no truth value. A table that names a preset
    (``preset = "giga-ssl"``, or the ``method`` of a tile pretraining) changes that preset.

    >>> value_of([1, 2.5], tuple[float, ...], where="sizes", folder=Path("."))
    (1.0, 2.5)

    Args:
        value: as TOML has it.
        hint: the wanted type.
        where: name of the value, for errors.
        folder: where relative paths start.

    Raises:
        SettingsError: a value of another type, or an unknown or missing field of a record.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        only = _choice(value, inner, where=where)
        return value_of(value, only, where=where, folder=folder)
    if is_dataclass(hint):
        return _record(value, hint, where=where, folder=folder)
    if origin is not None and origin is not Literal:
        return _many(value, hint, where=where, folder=folder)
    return _one(value, hint, where=where, folder=folder)


def _choice(value: Any, kinds: Sequence[Any], *, where: str) -> Any:
    """Which of several types a value is meant as; what no file can say is no choice."""
    kinds = [kind for kind in kinds if kind is not NoneType]
    records = [kind for kind in kinds if is_dataclass(kind)]
    if len(kinds) == 1 or (records and isinstance(value, dict)):
        return (records or kinds)[0]
    plain = [kind for kind in kinds if kind in _WORDS or kind is Path]
    if not plain:
        raise SettingsError(f"{where} cannot be said in a recipe")
    if Path in plain and not is_url(value):
        return Path
    return type(value) if type(value) in plain else next(k for k in plain if k is not Path)


def _record(value: Any, record: Any, *, where: str, folder: Path) -> Any:
    preset, table = preset_of(record, _plain(value, dict, where=where), where=where)
    return _changed(preset, record, table, where=where, folder=folder)


def _changed(base: Any, record: Any, table: Mapping[str, Any], *, where: str, folder: Path) -> Any:
    """A record with the fields that a table says; the others are those of the base, if any."""
    hints = get_type_hints(record)
    known = [field.name for field in fields(record) if field.init]
    said = {}
    for name, part in table.items():
        if name not in known:
            raise unknown_name(f"field of {where}", name, known=known)
        inner, place = getattr(base, name, None), f"{where}.{name}"
        if is_dataclass(inner) and isinstance(part, dict) and "preset" not in part:
            said[name] = _changed(inner, type(inner), part, where=place, folder=folder)
        else:
            said[name] = value_of(part, hints[name], where=place, folder=folder)
    try:
        return record(**said) if base is None else replace(base, **said)
    except TypeError as error:  # a field without default is missing
        raise SettingsError(f"{where}: {error}") from error


def _many(value: Any, hint: Any, *, where: str, folder: Path) -> Any:
    """Tuples, sequences and mappings."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Mapping or origin is dict:
        return {
            name: value_of(part, inner[1], where=f"{where}.{name}", folder=folder)
            for name, part in _plain(value, dict, where=where).items()
        }
    if origin not in {tuple, list, Sequence}:
        raise SettingsError(f"{where} cannot be said in a recipe")
    parts = _plain(value, list, where=where)
    if origin is tuple and inner[-1] is not Ellipsis and len(parts) != len(inner):
        raise SettingsError(f"{where} needs {len(inner)} values; got {len(parts)}")
    kinds = inner if origin is tuple and inner[-1] is not Ellipsis else [inner[0]] * len(parts)
    return tuple(
        value_of(part, kind, where=f"{where}[{k}]", folder=folder)
        for k, (part, kind) in enumerate(zip(parts, kinds, strict=True))
    )


def _one(value: Any, hint: Any, *, where: str, folder: Path) -> Any:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise unknown_name(where, str(value), known=[str(one) for one in get_args(hint)])
        return value
    if hint is Path:
        return folder / _plain(value, str, where=where)
    return value if hint is Any else _plain(value, hint, where=where)


def _plain(value: Any, kind: type, *, where: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise SettingsError(f"{where} must be {_WORDS.get(kind, kind.__name__)}; got {value!r}")
    return value


_WORDS: Mapping[type, str] = {
    int: "a whole number", float: "a number", str: "a text", bool: "true or false",
    list: "a list", dict: "a table",
}  # fmt: skip
