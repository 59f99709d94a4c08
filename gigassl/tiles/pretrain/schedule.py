"""The learning rate of each step, and the plateau that it waits for on held-out tiles."""

from dataclasses import dataclass

from gigassl.tiles.pretrain.settings import TilePretrainSettings
from gigassl.training.optimisers import learning_rate

PATIENCE = 4
"""Rounds in a row that do no better than the best one before the learning rate falls."""
LOWEST_RATE = 1e-5
"""It falls no lower (arXiv 1811.02840, appendix)."""

_FALL = 0.1


@dataclass(kw_only=True)
class Plateau:
    """How long nothing has become better; a part of the training's state.

    Attributes:
        lowest: least value so far; None before the first.
        stale: rounds since then, or since the last fall.
        falls: of the learning rate, each to a tenth.
    """

    lowest: float | None = None
    stale: int = 0
    falls: int = 0

    def note(self, value: float) -> None:
        """Takes the value of a round, of which less is better."""
        if self.lowest is None or value < self.lowest:
            self.lowest, self.stale = value, 0
            return
        self.stale += 1
        if self.stale == PATIENCE:
            self.stale, self.falls = 0, self.falls + 1


def rate_at(
    step: int, *, settings: TilePretrainSettings, peak: float, steps: int, falls: int = 0
) -> float:
    """The learning rate of a step by the schedule of the settings.

    >>> plateau = TilePretrainSettings(schedule="plateau", validation=0.2, warmup=0.2)
    >>> [rate_at(s, settings=plateau, peak=1.0, steps=10) for s in range(3)]
    [0.5, 1.0, 1.0]
    >>> [rate_at(9, settings=plateau, peak=1.0, steps=10, falls=n) for n in (1, 9)]
    [0.1, 1e-05]
    """
    warmup_steps = round(settings.warmup * steps)
    if settings.schedule == "cosine":
        return learning_rate(step, peak=peak, warmup_steps=warmup_steps, steps=steps)
    risen = min(1.0, (step + 1) / max(1, warmup_steps))
    return risen * max(peak * _FALL**falls, min(peak, LOWEST_RATE))
