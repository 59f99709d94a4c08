"""What a recipe's folder remembers of its steps: from what each was made, and what it said."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

from gigassl.errors import SettingsError
from gigassl.files import written_whole
from gigassl.pipeline.output import make_folder
from gigassl.pipeline.recipe_places import (
    OUT,
    belongs,
    is_there,
    outputs_of,
    plain_arguments,
    shortened,
    stamps_of,
)
from gigassl.pipeline.recipe_steps import Step
from gigassl.versions import installed_version

RECIPE, RESOLVED, STEPS_FOLDER = "recipe.toml", "recipe.resolved.json", "recipe.steps"
_FORMAT = 1
_MOST_CHANGES = 3


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """A step as it was carried out.

    Attributes:
        run: of the function.
        arguments: those that shape its result, as JSON has them.
        chosen: of them what is not a default; if that changes, the step runs again.
        inputs: what each of its inputs was: path → stamp.
        gigassl: version that ran it.
        done: whether it came to its end.
        failures: what it could not use.
        said: its result in words.
        summary: its result for machines.
    """

    run: str
    arguments: Mapping[str, Any]
    chosen: Mapping[str, Any]
    inputs: Mapping[str, str]
    gigassl: str | None
    done: bool = False
    failures: Sequence[Any] = ()
    said: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a step has to run.

    Attributes:
        due: whether it has.
        why: it runs, or the empty text.
        removes: earlier outputs that stand in its way.
    """

    due: bool
    why: str = ""
    removes: tuple[Path, ...] = ()


def record_path(out: Path, step: Step) -> Path:
    """Where the record of a step lies."""
    return out / STEPS_FOLDER / f"{step.name}.json"


def present_record(step: Step, *, out: Path) -> StepRecord:
    """A step as it would be carried out now."""
    return StepRecord(
        run=step.run,
        arguments=plain_arguments(step, out=out),
        chosen=plain_arguments(step, out=out, chosen=True),
        inputs=stamps_of(step, out=out),
        gigassl=installed_version("gigassl"),
    )


def verdict(step: Step, *, out: Path, forced: bool = False) -> Verdict:
    """Whether a step has to run: what it is made of has changed, or it never came to its end.

    Raises:
        SettingsError: a damaged record.
    """
    before = read_record(record_path(out, step))
    if before is None:
        return Verdict(due=True, why="not done yet")
    now = present_record(step, out=out)
    settings, inputs = _changes(before, now), _changed_inputs(before, now)
    anew = {"never": False, "settings": bool(settings), "inputs": bool(settings or inputs)}
    if forced:
        anew |= {"settings": True, "inputs": True}
    removes = tuple(_beside(step, out=out)) if anew[step.kind.anew] else ()
    why = "asked for" if forced else settings or inputs or _unfinished(step, before, out=out)
    if not why and step.kind.by_version and before.gigassl != now.gigassl:
        why = f"made by gigassl {before.gigassl}, now {now.gigassl}"
    return Verdict(due=bool(why), why=why, removes=removes)


def _unfinished(step: Step, before: StepRecord, *, out: Path) -> str:
    if not before.done:
        return "was stopped; goes on"
    missing = [path for path in outputs_of(step)[:1] if not is_there(path)]
    if missing:
        return f"{missing[0].relative_to(out)} is missing"
    if before.failures and step.kind.retries:
        return f"{len(before.failures)} could not be used; tried again"
    return ""


def begin(step: Step, *, out: Path, removes: Sequence[Path]) -> StepRecord:
    """Removes what stands in the way of a step and notes that it runs.

    Raises:
        MachineError: disk full, read-only folder.
    """
    for path in removes:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    record = present_record(step, out=out)
    save_record(record, record_path(out, step))
    return record


def finished(record: StepRecord, result: Any, *, out: Path) -> StepRecord:
    """The record of a step that came to its end, with what it said."""
    failures = [asdict(each) if is_dataclass(each) else str(each) for each in result.failures]  # type: ignore[arg-type]
    said = {"failures": failures, "said": result.sentence(), "summary": result.summary()}
    plain = json.loads(json.dumps(said, default=str))
    short = _with_texts(plain, lambda text: shortened(text, out=out))
    return replace(record, done=True, **short)


def remembered(record: StepRecord, *, out: Path) -> StepRecord:
    """A record whose texts name the run's folder as it is called now."""
    plain = {"failures": record.failures, "said": record.said, "summary": record.summary}
    return replace(record, **_with_texts(plain, lambda text: text.replace(OUT, str(out))))


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _with_texts(part, change) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_texts(part, change) for part in value]
    return change(value) if isinstance(value, str) else value


def read_record(path: Path) -> StepRecord | None:
    """The record of a step; None where there is none.

    Raises:
        SettingsError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said.pop("format") != _FORMAT:
            raise SettingsError(f"{path} is of another version of gigassl; choose another -o")
        return StepRecord(**said)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(
            f"{path} is damaged ({error}); remove it, and the step goes on by itself"
        ) from error


def save_record(record: StepRecord, path: Path) -> None:
    """Writes the record of a step.

    Raises:
        MachineError: disk full, read-only folder.
    """
    save_json({"format": _FORMAT, **asdict(record)}, path)


def save_json(value: Mapping[str, Any], path: Path) -> None:
    """Writes plain values for people and machines.

    Raises:
        MachineError: disk full, read-only folder.
    """
    make_folder(path.parent)
    with written_whole(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _beside(step: Step, *, out: Path) -> Iterator[Path]:
    """What there is of the outputs of a step, and beside them with the same beginning."""
    for output in outputs_of(step):
        if output == out or not output.parent.is_dir():
            continue
        for path in sorted(output.parent.iterdir()):
            if not path.name.startswith(".") and belongs(path, output):
                yield path


def _changes(before: StepRecord, now: StepRecord) -> str:
    """Which settings have changed, in words; the empty text where none has."""
    if before.run != now.run:
        return f"ran {before.run} before"
    was, is_ = _flat(before.arguments), _flat(now.arguments)
    chosen = _flat(before.chosen), _flat(now.chosen)
    said = [
        f"{name} {_short(was.get(name))} → {_short(is_.get(name))}"
        for name in dict.fromkeys([*chosen[0], *chosen[1]])
        if chosen[0].get(name) != chosen[1].get(name)
    ]
    more = f" and {len(said) - _MOST_CHANGES} more" if len(said) > _MOST_CHANGES else ""
    return f"changed: {', '.join(said[:_MOST_CHANGES])}{more}" if said else ""


def _changed_inputs(before: StepRecord, now: StepRecord) -> str:
    names = [
        name.removeprefix(f"{OUT}/")
        for name in dict.fromkeys([*before.inputs, *now.inputs])
        if before.inputs.get(name) != now.inputs.get(name)
    ]
    return f"changed: {', '.join(names)}" if names else ""


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested plain values by their dotted names."""
    if isinstance(value, Mapping) and value:
        parts = value.items()
    elif isinstance(value, list) and any(isinstance(part, (dict, list)) for part in value):
        parts = {str(k): part for k, part in enumerate(value)}.items()
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, part in parts:
        found |= _flat(part, f"{name}.{key}" if name else key)
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"
