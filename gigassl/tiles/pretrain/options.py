"""How a training of a tile encoder is carried out, and how long it is."""

from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from gigassl.tiles.labelled_images import LabelledTiles
from gigassl.tiles.pretrain.checkpoints import CheckpointFile
from gigassl.tiles.pretrain.settings import TilePretrainSettings

LONGEST_ROUND, MOST_ROUNDS = 500, 100


@dataclass(frozen=True, kw_only=True)
class TileTrainingOptions:
    """How a training is carried out; does not change the weights, save that devices round apart.

    Attributes:
        fabric: what runs it, launched already; None for one device of whatever kind is there.
        checkpoint: where its state is kept; a stopped or killed training goes on from there.
        minutes: between two states.
        workers: processes that read tiles ahead; 0 for a thread.
        exam: labelled tiles, for kNN accuracy only; never learned from.
        round_steps: steps of a row of the log; None for an epoch, or a hundredth of the training
            where that is longer, and at most 500.
        best: where the weights of the best round's encoder go at the end: the one with the highest
            kNN accuracy; without an exam the one with the highest effective rank after the warm-up,
            which is what predicts accuracy without labels (RankMe, arXiv 2210.02885). The loss
            would not do: that of BYOL and DINO is lowest before anything is learned. Where
            patients are held out, what the method measures on these goes before both.
        pictures: folder in which the method draws what it makes of a few tiles after each round.
    """

    fabric: Fabric | None = None
    checkpoint: CheckpointFile | None = None
    minutes: float = 10.0
    workers: int = 0
    exam: LabelledTiles | None = None
    round_steps: int | None = None
    best: Path | None = None
    pictures: Path | None = None


def planned_steps(settings: TilePretrainSettings, *, n_tiles: int) -> int:
    """Steps of the optimiser that the settings mean for so many tiles.

    >>> planned_steps(TilePretrainSettings(epochs=10, batch_size=32, accumulate=2), n_tiles=1000)
    156
    """
    if settings.steps is not None:
        return settings.steps
    return max(1, settings.epochs * n_tiles // (settings.batch_size * settings.accumulate))


def round_length(settings: TilePretrainSettings, *, n_tiles: int) -> int:
    """Steps of a round: an epoch, or a hundredth of all where that is longer; at most 500.

    >>> round_length(TilePretrainSettings(batch_size=10), n_tiles=200)
    20
    """
    epoch = n_tiles // (settings.batch_size * settings.accumulate)
    steps = planned_steps(settings, n_tiles=n_tiles)
    return max(1, min(LONGEST_ROUND, max(epoch, -(-steps // MOST_ROUNDS))))
