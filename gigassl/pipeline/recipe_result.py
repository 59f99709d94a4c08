"""How a recipe ended, or would go: for people and for machines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gigassl.pipeline.recipe_plan import PlannedStep


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """How a step ended, now or before.

    Attributes:
        planned: the step and what became of it.
        said: its result in words.
        summary: its result for machines.
        failures: what it could not use.
        interrupted: whether the user stopped it.
    """

    planned: PlannedStep
    said: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    failures: Sequence[object] = ()
    interrupted: bool = False

    def sentence(self) -> str:
        """What happened, for people."""
        name, state = self.planned.step.name, self.planned.state
        if state == "due":
            return f"{name}: {self.said}"
        why = f" ({self.planned.why})" if self.planned.why else ""
        return f"{name}, {state}{why}" + (f": {self.said}" if self.said else "")


@dataclass(frozen=True, kw_only=True)
class RecipeResult:
    """How a recipe ended.

    Attributes:
        title: of the recipe.
        out: folder of all results.
        steps: how each step ended, up to one that was interrupted.
    """

    title: str
    out: Path
    steps: tuple[StepResult, ...]

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped it; what was done is kept."""
        return any(step.interrupted for step in self.steps)

    @property
    def failures(self) -> Sequence[object]:
        """What the steps could not use, now or before."""
        return [failure for step in self.steps for failure in step.failures]

    def sentence(self) -> str:
        """What happened, for people."""
        return "\n\n".join([self.title, *(step.sentence() for step in self.steps)])

    def summary(self) -> dict[str, Any]:
        """What happened, for machines."""
        return {
            "title": self.title,
            "out": str(self.out),
            "interrupted": self.interrupted,
            "steps": [
                {**step.planned.summary(self.out), **step.summary, "n_failures": len(step.failures)}
                for step in self.steps
            ],
        }


@dataclass(frozen=True, kw_only=True)
class RecipePlan:
    """What a recipe would do.

    Attributes:
        title: of the recipe.
        out: folder of all results.
        steps: what would become of each step.
    """

    title: str
    out: Path
    steps: tuple[PlannedStep, ...]
    failures: tuple[()] = ()
    interrupted: bool = False

    def sentence(self) -> str:
        """The plan, for people."""
        lines = [f"{n}. {step.line(self.out)}" for n, step in enumerate(self.steps, start=1)]
        return "\n".join([f"{self.title} → {self.out}", *lines])

    def summary(self) -> dict[str, Any]:
        """The plan, for machines."""
        return {
            "title": self.title,
            "out": str(self.out),
            "steps": [step.summary(self.out) for step in self.steps],
        }
