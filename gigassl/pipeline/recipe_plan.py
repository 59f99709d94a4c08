"""Which steps of a recipe have to run, why, and what stands in their way."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gigassl.pipeline.recipe_places import belongs, inputs_of, outputs_of
from gigassl.pipeline.recipe_record import verdict
from gigassl.pipeline.recipe_steps import Step

State = Literal["due", "up to date", "left out", "not asked for"]


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """What becomes of a step.

    Attributes:
        step: the step.
        state: whether it runs.
        why: it runs, or is left out.
        removes: earlier outputs that stand in its way.
    """

    step: Step
    state: State
    why: str = ""
    removes: tuple[Path, ...] = ()

    def line(self, out: Path) -> str:
        """The step in a line or two, for people."""
        makes = ", ".join(_short(path, out) for path in outputs_of(self.step))
        why = f" ({self.why})" if self.why else ""
        said = f"{self.step.name}: {_WORDS[self.state]}{why}"
        if self.state == "due":
            said = f"{said} → {makes}"
        if self.removes:
            removed = ", ".join(_short(path, out) for path in self.removes)
            said = f"{said}\n    removes {removed} first"
        return said

    def summary(self, out: Path) -> dict[str, Any]:
        """The step for machines."""
        return {
            "name": self.step.name,
            "run": self.step.run,
            "state": self.state,
            "why": self.why,
            "outputs": [_short(path, out) for path in outputs_of(self.step)],
            "removes": [_short(path, out) for path in self.removes],
        }


_WORDS = {
    "due": "would run", "up to date": "is up to date", "left out": "is left out",
    "not asked for": "is not asked for",
}  # fmt: skip


def _short(path: Path, out: Path) -> str:
    return str(path.relative_to(out))


class Planner:
    """Decides on the steps of a recipe, one after the other.

    Args:
        out: the folder of the run.
        begin_at: step from which on all run.
        only: steps that may run; None for all.
        ahead: decide before earlier steps have run, so that what depends on one that is due is
            due too.
    """

    def __init__(
        self, out: Path, *, begin_at: str | None, only: Sequence[str] | None, ahead: bool
    ) -> None:
        self._out, self._begin_at, self._only, self._ahead = out, begin_at, only, ahead
        self._due, self._forced = list[Step](), False

    def decide(self, step: Step) -> PlannedStep:
        """What becomes of the next step.

        Raises:
            SettingsError: a damaged record, or inputs that cannot be read.
        """
        self._forced = self._forced or step.name == self._begin_at
        if self._only is not None and step.name not in self._only:
            return PlannedStep(step=step, state="not asked for")
        if step.lacking:
            why = f"{', '.join(step.lacking)} not given"
            return PlannedStep(step=step, state="left out", why=why)
        found = verdict(step, out=self._out, forced=self._forced)
        first = self._depends(step) if self._ahead else None
        if found.due or first is not None:
            self._due.append(step)
            after = "" if first is None else f"after {first.name}, if that changes anything"
            why = found.why or after
            return PlannedStep(step=step, state="due", why=why, removes=found.removes)
        return PlannedStep(step=step, state="up to date")

    def _depends(self, step: Step) -> Step | None:
        """The first of the steps that are due whose output a step reads."""
        inputs = inputs_of(step, out=self._out)
        for each in self._due:
            for output in outputs_of(each):
                if any(belongs(path, output) for path in inputs):
                    return each
        return None
