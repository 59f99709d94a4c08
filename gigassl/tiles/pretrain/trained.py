"""How a training of a tile encoder ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gigassl.tiles.pretrain.source import UnreadableFile
from gigassl.training.geometry import Geometry
from gigassl.training.stopping import Asked

COLLAPSED_ROUNDS = 3
"""Rounds in a row whose vectors have collapsed before it is said."""


@dataclass(frozen=True, kw_only=True)
class TrainedTiles:
    """How a training ended.

    Attributes:
        steps: steps done, of so many that were wanted.
        steps_wanted: of the settings.
        epochs: passes over as many tiles as there are.
        loss, geometry, knn_accuracy, tiles_per_s, waiting: of the last round (see ``RoundRow``);
            None where not even one was finished, or no exam was given.
        best_step: at the end of whose round the encoder was best; None before the warm-up's end.
        best_knn_accuracy: of that round.
        measured, best_measured: on held-out tiles, at the end of the last round and of the best.
        collapsed: the vectors of the last rounds say nothing: the training has failed.
        diverged: the loss, or a weight, was no number; the network is of no use.
        stopped_by: the signal that ended it early; the same call goes on.
        unreadable: files that were skipped, each once.
        state: where the last good state is, in words.
    """

    steps: int
    steps_wanted: int
    epochs: float
    loss: float | None
    geometry: Geometry | None
    knn_accuracy: float | None
    tiles_per_s: float | None
    waiting: float | None
    best_step: int | None
    best_knn_accuracy: float | None
    collapsed: bool
    diverged: bool
    stopped_by: Asked | None
    unreadable: tuple[UnreadableFile, ...]
    state: str
    measured: Mapping[str, float] = field(default_factory=dict)
    best_measured: Mapping[str, float] = field(default_factory=dict)

    def alarm(self) -> str:
        """What is wrong with the result and what to do about it; empty where nothing is."""
        if self.diverged:
            return (
                f"the loss was no number any more at step {self.steps} of {self.steps_wanted}, so "
                f"the training has stopped; {self.state}; start anew with --restart and a lower "
                "--lr, a longer --warmup or --precision fp32"
            )
        return collapse_alarm(self.geometry) if self.collapsed and self.geometry else ""


def collapse_alarm(shape: Geometry) -> str:
    """What has happened to the vectors, and what to do about it."""
    return (
        "the vectors have collapsed: all tiles look alike to the encoder (effective rank "
        f"{shape.effective_rank:.1f}, mean cosine {shape.mean_cosine:.4f}); try a lower --lr, a "
        "larger --batch-size, a longer --warmup or another --method"
    )
