"""All random numbers of a training, from its seed, what they are for, the epoch and the device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

Purpose = Literal[
    "deal", "views", "dropout", "sample", "watch", "exam", "masks", "pairs", "held-out"
]


@dataclass(frozen=True, kw_only=True)
class Chance:
    """Generators that know no past, so that a resumed epoch has the numbers it would have had.

    Attributes:
        seed: of the training.
        rank: number of this device among those that share a batch.
        device: where views are drawn.
    """

    seed: int
    rank: int
    device: torch.device

    def shared(self, purpose: Purpose, epoch: int = 0) -> np.random.Generator:
        """A generator that is the same on all devices."""
        return np.random.default_rng([self.seed, _number(purpose), epoch])

    def own(self, purpose: Purpose, epoch: int = 0) -> torch.Generator:
        """A generator of this device's own."""
        return torch.Generator(device=self.device).manual_seed(self._seed(purpose, epoch))

    def same(self, purpose: Purpose, number: int = 0) -> torch.Generator:
        """A generator on the CPU that is the same on all devices."""
        words = [self.seed, _number(purpose), number]
        return torch.Generator().manual_seed(_seed_of(words))

    @contextmanager
    def epoch(self, number: int, *, device: torch.device) -> Iterator[torch.Generator]:
        """The generator of the views of an epoch (or batch); dropout inside has its own state too.

        Dropout takes no generator but PyTorch's global one, which is put back afterwards.
        """
        on_gpu = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=on_gpu):
            dropout = self._seed("dropout", number)
            torch.set_rng_state(torch.Generator().manual_seed(dropout).get_state())
            for gpu in on_gpu:
                state = torch.Generator(device=gpu).manual_seed(dropout).get_state()
                torch.cuda.set_rng_state(state, gpu)
            yield self.own("views", number)

    def _seed(self, purpose: Purpose, epoch: int) -> int:
        return _seed_of([self.seed, _number(purpose), epoch, self.rank])


def _seed_of(words: Sequence[int]) -> int:
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def _number(purpose: Purpose) -> int:
    return get_args(Purpose).index(purpose)
