"""Where the steps of a recipe read and write, and whether that is what it was."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from gigassl.errors import SettingsError
from gigassl.pipeline.recipe_steps import Step
from gigassl.slides.cohort import read_cohort

MAIN = ("out", "folder")
"""Arguments that name a step's main output."""

_WRITTEN = {*MAIN, "keep_bags", "overviews"}
"""Arguments and fields that name what is written."""

_NO_MATTER = {
    "cache_dir", "checkpoint_every", "checkpoint_minutes", "device", "devices", "engine",
    "expected", "nodes", "restart", "stores", "threads", "workers",
}  # fmt: skip
"""Those that say how the work is carried out and change no result."""

_TABLES = {".csv", ".tsv"}
_BY_CONTENT = 64 * 2**20
"""Files up to this size, in bytes, are known by their content; larger ones by size and time."""

OUT = "{out}"


def plain_arguments(step: Step, *, out: Path, chosen: bool = False) -> dict[str, Any]:
    """The arguments of a step that shape its result, as JSON has them; the folder is ``{out}``.

    Args:
        step: the step.
        out: the run's folder.
        chosen: without the fields of records that are what they are where nothing is said, so that
            a later version with more fields finds the same.
    """
    return {name: _plain(value, out=out, chosen=chosen) for name, value in step.arguments.items()}


def _plain(value: Any, *, out: Path, chosen: bool) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name), out=out, chosen=chosen)
            for field in fields(value)
            if field.init
            and field.name not in _NO_MATTER
            and not (chosen and getattr(value, field.name) == _default(field))
        }
    if isinstance(value, Mapping):
        return {
            str(key): _plain(part, out=out, chosen=chosen)
            for key, part in value.items()
            if key not in _NO_MATTER
        }
    if isinstance(value, (tuple, list)):  # whose number must show, even of records of defaults
        return [_plain(part, out=out, chosen=False) for part in value]
    return shortened(str(value), out=out) if isinstance(value, (Path, str)) else value


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def shortened(text: str, *, out: Path) -> str:
    """A text in which the run's folder is called ``{out}``, so that the folder may be moved."""
    return OUT if text == str(out) else text.replace(f"{out}/", f"{OUT}/")


def outputs_of(step: Step) -> list[Path]:
    """What a step writes: its main output first; beside each lie files whose names it begins."""
    found = {name: value for name, value in _leaves(step.arguments) if name in _WRITTEN}
    return [Path(found[name]) for name in sorted(found, key=lambda n: n not in MAIN)]


def belongs(path: Path, output: Path) -> bool:
    """Whether a path is an output, in it, or beside it with the same beginning.

    >>> belongs(Path("r/probe.parquet.splits"), Path("r/probe.parquet"))
    True
    """
    if path == output or output in path.parents:
        return True
    return any(
        each.parent == output.parent and each.name.startswith(f"{output.stem}.")
        for each in (path, *path.parents)
    )


def inputs_of(step: Step, *, out: Path) -> list[Path]:
    """What a step reads: paths, and texts that lead into the run's folder, such as an encoder's."""
    found = dict[Path, None]()
    for name, value in _leaves(step.arguments):
        if name in _WRITTEN:
            continue
        path = value if isinstance(value, Path) else _file_of(value, out=out)
        if path is not None:
            found[path] = None
    return list(found)


def _file_of(text: str, *, out: Path) -> Path | None:
    """The file that a text such as ``NAME=FILE`` or ``FILE@layer3`` names; None where it is none.

    In the run's folder it may have yet to be made.
    """
    if f"{out}/" in text:
        path = Path(text[text.index(f"{out}/") :])
        return path.with_name(path.name.partition("@")[0])
    path = Path(text.partition("@")[0])
    return path if path.suffix and is_there(path) else None


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; a name that none can have is of none."""
    try:
        return path.exists()
    except OSError:
        return False


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Path | str]]:
    """Paths and texts in arguments, each with the name of its field."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key not in _NO_MATTER:
                yield from _leaves(part, key)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _leaves(part, name)
    elif isinstance(value, (Path, str)):
        yield name, value


def stamps_of(step: Step, *, out: Path) -> dict[str, str]:
    """What each input of a step is at present; texts that differ when it does.

    Raises:
        SettingsError: a table of slides that cannot be read.
    """
    source, found = step.arguments.get("source"), dict[str, str]()
    for path in inputs_of(step, out=out):
        stamp = stamp_of(path)
        if path == source and path.suffix in _TABLES and path.is_file():
            stamp = f"{stamp} {_slides_of(step, path)}"
        found[shortened(str(path), out=out)] = stamp
    return found


def stamp_of(path: Path) -> str:
    """What a file or folder is at present; "absent" where there is none.

    Small files are known by their content, large ones and those in folders by size and time.
    """
    if path.is_file():
        if path.stat().st_size > _BY_CONTENT:
            return _sized(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    if not path.is_dir():
        return "absent"
    lines = [
        f"{each.relative_to(path)} {_sized(each)}"
        for each in sorted(path.rglob("*"))
        if each.is_file() and not each.name.startswith(".")
    ]
    return _digest(lines)


def _slides_of(step: Step, table: Path) -> str:
    """The slides that a table names: these may change while it does not."""
    options = step.arguments.get("options")
    cohort = read_cohort(table, slide_dir=getattr(options, "slide_dir", None))
    return _digest([f"{slide.path} {_sized(slide.path)}" for slide in cohort.slides])


def _sized(path: Path) -> str:
    if not path.exists():
        return "absent"
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def check_places(steps: Sequence[Step], *, out: Path) -> None:
    """Whether every input is there or made by an earlier step, and no output in another's way.

    Raises:
        SettingsError: it is not so.
    """
    written = list[tuple[Path, Step]]()
    for step in steps:
        for path in inputs_of(step, out=out):
            made = any(belongs(path, output) for output, _ in written)
            if not made and not is_there(path):
                earlier = ", ".join(str(output.relative_to(out)) for output, _ in written)
                made_by = f", and no earlier step makes it (they make {earlier})" if earlier else ""
                raise SettingsError(f"step {step.name}: there is no {path}{made_by}")
        for output in outputs_of(step):
            if out not in (output, *output.parents):
                raise SettingsError(
                    f"step {step.name} would write {output}; results of a recipe lie in its "
                    "folder: give a relative path"
                )
            for other, by in written:
                if belongs(output, other) or belongs(other, output):
                    raise SettingsError(f"steps {by.name} and {step.name} both write {output}")
        written += [(output, step) for output in outputs_of(step)]
