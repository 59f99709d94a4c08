"""What a recipe may run, and how each of these functions goes on with what it finds."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gigassl.errors import SettingsError, unknown_name
from gigassl.pipeline.recipe_values import value_of


@dataclass(frozen=True, kw_only=True)
class StepKind:
    """A function that recipes run: it goes on where it was stopped, and returns a result.

    A result has ``sentence()``, ``summary()``, ``failures`` and ``interrupted``.

    Attributes:
        module: where the function is.
        anew: when its earlier output stands in its way and is removed: never (it makes anew what
            has changed, or writes everything in seconds), when its settings have changed (new
            slides are added), or when settings or inputs have (what is trained).
        retries: whether it tries again what failed before.
        by_version: whether another version of gigassl is a reason to run it again; not for what
            takes days to make and says itself which version made it.
        packages: of an extra, that it needs.
    """

    module: str
    anew: Literal["never", "settings", "inputs"] = "never"
    retries: bool = False
    by_version: bool = False
    packages: tuple[str, ...] = ()


_MADE, _ADAPTED = "gigassl.pipeline.{}", "gigassl.pipeline.recipe_adapters"

STEPS: Mapping[str, StepKind] = {
    "compare_files": StepKind(module=_MADE.format("compare"), by_version=True),
    "embed": StepKind(module=_MADE.format("embed"), retries=True),
    "encode": StepKind(module=_MADE.format("encode"), retries=True),
    "encode_bank": StepKind(module=_MADE.format("bank"), anew="settings", retries=True),
    "explain": StepKind(module=_MADE.format("explain"), by_version=True),
    "fewshot": StepKind(module=_MADE.format("fewshot"), anew="inputs"),
    "fit": StepKind(module=_MADE.format("fit"), by_version=True),
    "import_model": StepKind(module=_ADAPTED),
    "import_tile_encoder": StepKind(module=_ADAPTED),
    "import_vectors": StepKind(module=_MADE.format("import_vectors")),
    "make_cohort": StepKind(module=_ADAPTED),
    "mil": StepKind(module=_MADE.format("mil"), anew="inputs"),
    "needle_curve": StepKind(module=_MADE.format("needles")),
    "predict": StepKind(module=_MADE.format("predict"), by_version=True),
    "pretrain": StepKind(module=_MADE.format("pretrain"), anew="inputs"),
    "pretrain_tiles": StepKind(module=_ADAPTED, anew="inputs"),
    "probe": StepKind(module=_MADE.format("probe"), by_version=True),
    "probe_tiles": StepKind(module=_MADE.format("probe_tiles"), by_version=True),
    "report_page": StepKind(
        module=_MADE.format("report"), by_version=True, packages=("jinja2", "plotly", "umap")
    ),
    "screen": StepKind(module=_MADE.format("screen"), by_version=True),
    "sites": StepKind(module=_MADE.format("sites"), by_version=True),
    "synth_needles": StepKind(module=_MADE.format("synth_needles"), anew="settings"),
    "synth_nic": StepKind(module=_MADE.format("synth_nic"), anew="settings"),
    "task_subsets": StepKind(module=_MADE.format("task_subsets")),
}
"""Public function → where it is and how it goes on. All take their output as ``out`` or ``folder``
and may be told of progress."""

_TOLD = ("progress", "monitor")
_OURS = {*_TOLD, "workers"}
_FILLED = {"settings", "options", "tiles", "network"}
"""Parameters whose absence means a record of defaults."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One function to run.

    Attributes:
        name: of the step: unique in the recipe.
        run: of the function, one of ``STEPS``.
        arguments: all that it asks for, defaults too, save whom to tell of progress.
        lacking: variables that were not given and without which it is left out.
    """

    name: str
    run: str
    arguments: Mapping[str, Any]
    lacking: tuple[str, ...] = ()

    @property
    def kind(self) -> StepKind:
        """How the function goes on."""
        return STEPS[self.run]

    def carry_out(self, told: tuple[object, ...]) -> Any:
        """Runs the function.

        Args:
            told: progress reporters and monitors; each function takes those that it knows.
        """
        function, hints = function_of(self.run), get_type_hints(function_of(self.run))
        listeners = {
            name: _first(told, kinds=get_args(hints[name]) or (hints[name],))
            for name in _TOLD
            if name in hints
        }
        return function(**self.arguments, **listeners)


def _first(told: tuple[object, ...], *, kinds: tuple[Any, ...]) -> object | None:
    wanted = tuple(kind for kind in kinds if kind is not NoneType)
    return next((each for each in told if isinstance(each, wanted)), None)


@cache
def function_of(run: str) -> Callable[..., Any]:
    """The function of a step.

    Raises:
        SettingsError: no recipe may run that.
    """
    if run not in STEPS:
        raise unknown_name("step", run, known=STEPS)
    function: Callable[..., Any] = getattr(import_module(STEPS[run].module), run)
    return function


def arguments_of(run: str, said: Mapping[str, Any], *, out: Path) -> dict[str, Any]:
    """A table of a recipe as the arguments of a function, with all defaults.

    Raises:
        SettingsError: unknown, missing or unfitting arguments.
    """
    function = function_of(run)
    hints = get_type_hints(function)
    known = {n: p for n, p in inspect.signature(function).parameters.items() if n not in _OURS}
    for key in said:
        if key not in known:
            raise unknown_name(f"argument of {run}", key, known=known)
    arguments, lacking = {}, []
    for name, parameter in known.items():
        if name in said:
            arguments[name] = value_of(said[name], hints[name], where=f"{run}.{name}", folder=out)
        elif name in _FILLED and (record := _default_record(hints[name])) is not None:
            arguments[name] = record
        elif parameter.default is not parameter.empty:
            arguments[name] = parameter.default
        else:
            lacking.append(name)
    if lacking:
        raise SettingsError(f"{run} also needs {', '.join(lacking)}")
    return arguments


def _default_record(hint: Any) -> Any:
    """The record that stands for nothing said; None where there is none."""
    for kind in get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,):
        if is_dataclass(kind) and isinstance(kind, type):
            needed = [f for f in fields(kind) if f.init and f.default is MISSING]
            if all(field.default_factory is not MISSING for field in needed):
                return kind()
    return None
