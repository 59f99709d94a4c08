"""The options of a command as Markdown tables, read from the program itself."""

import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from typer.main import get_command

from gigassl.cli.main import app

_WORDS = {int: "number", float: "number", str: "text", Path: "path"}


def commands() -> Mapping[str, Any]:
    """Name → command, as ``gigassl --help`` lists them; of a group each with the group's name."""
    found: dict[str, Any] = {}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        if inner:
            found.update({f"{name} {part}": leaf for part, leaf in inner.items()})
        else:
            found[name] = command
    return found


def flags(command: Any) -> set[str]:
    """All spellings of the options of a command, such as ``--out`` and ``-o``."""
    options = (p for p in command.params if p.param_type_name == "option")
    return {flag for p in options for flag in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}


def option_tables(command: Any) -> str:
    """Arguments, then options panel by panel, each panel a table."""
    hints = typing.get_type_hints(command.callback)
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option" and "--help" in parameter.opts:
            continue
        heading = "Options" if parameter.param_type_name == "option" else "Arguments"
        rows = panels.setdefault(parameter.rich_help_panel or heading, [])
        rows.append("| " + " | ".join(_row(parameter, hints[parameter.name])) + " |")
    return "\n\n".join(
        f"**{panel}**\n\n| | value | default | |\n|---|---|---|---|\n" + "\n".join(rows)
        for panel, rows in panels.items()
    )


def _row(parameter: Any, hint: Any) -> Sequence[str]:
    if parameter.param_type_name == "option":
        spelled = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
    else:
        spelled = f"`{str(parameter.metavar or parameter.name).upper().strip('.')}`"
    value = parameter.metavar if parameter.metavar and "--" in spelled else _value(hint)
    help_text = " ".join((parameter.help or "").split())
    return [_cell(text) for text in (spelled, value, _default(parameter), help_text)]


def _value(hint: Any) -> str:
    """What may be given, in a word; of a choice all it may be."""
    kinds = list(_leaves(hint))
    if any(get_origin(kind) is Literal for kind in kinds):
        return " ".join(f"`{word}`" for kind in kinds for word in get_args(kind))
    return "" if bool in kinds else " or ".join(dict.fromkeys(_WORDS[kind] for kind in kinds))


def _leaves(hint: Any) -> Iterator[Any]:
    """The plain types in an optional, a list, a union."""
    if get_origin(hint) is Literal or not get_args(hint):
        if hint is not type(None):
            yield hint
    elif get_origin(hint) in {list, tuple, typing.Union, UnionType}:
        for part in get_args(hint):
            yield from _leaves(part)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "*required*"
    if isinstance(parameter.show_default, str):
        return str(parameter.show_default)
    default = parameter.default
    if default is None or default is False or default == ():
        return ""
    return "yes" if default is True else f"`{default}`"


def _cell(text: str) -> str:
    return text.replace("|", "&#124;").replace("<", "&lt;")
