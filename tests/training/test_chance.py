"""Random numbers of a training: of the seed, the purpose, the number and the device alone."""

import torch

from gigassl.training.chance import Chance


def of(*, seed: int = 1, rank: int = 0) -> Chance:
    return Chance(seed=seed, rank=rank, device=torch.device("cpu"))


def draw(generator: torch.Generator) -> list[float]:
    found: list[float] = torch.rand(4, generator=generator).tolist()
    return found


def test_what_is_the_same_on_all_devices_and_what_is_each_ones_own() -> None:
    assert draw(of().same("views", 3)) == draw(of(rank=1).same("views", 3))
    assert draw(of().own("views", 3)) != draw(of(rank=1).own("views", 3))
    distinct = [of().same("views", 3), of().same("views", 4), of().same("masks", 3),
                of(seed=2).same("views", 3)]  # fmt: skip
    assert len({tuple(draw(generator)) for generator in distinct}) == 4


def test_dropout_is_that_of_its_step_and_the_callers_numbers_are_left_alone() -> None:
    before = torch.get_rng_state()
    found = []
    for rank in (0, 0, 1):
        with of(rank=rank).epoch(5, device=torch.device("cpu")):
            found.append(torch.rand(3).tolist())
        torch.testing.assert_close(torch.get_rng_state(), before)
    assert found[0] == found[1] != found[2]
