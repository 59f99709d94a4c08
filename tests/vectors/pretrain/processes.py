"""What one of several processes does that pretrain a slide encoder together; run by spawn."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from gigassl.vectors.packed import PackedTiles
from gigassl.vectors.pretrain.objectives import ViewPair, new_objective
from gigassl.vectors.slide_encoders import new_network
from tests.synced_norm import synchronise

DIM, SLIDES, TILES, STEPS, LR = 6, 8, 3, 3, 0.001


def view(seed: int, *, rank: int, world: int) -> PackedTiles:
    """This process' slides of a batch."""
    features = torch.randn(
        SLIDES, TILES, DIM, generator=torch.Generator().manual_seed(seed)
    )[rank::world]  # fmt: skip
    n_bags = len(features)
    return PackedTiles(
        features=features.reshape(-1, DIM), coords=torch.zeros(n_bags * TILES, 2),
        bag=torch.arange(n_bags).repeat_interleave(TILES), n_bags=n_bags,
    )  # fmt: skip


def train(rank: int, world: int, names: tuple[str, ...], folder: str) -> None:
    """Trains with each objective for a few steps; saves weights and losses."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    for name in names:
        found = trained(name, rank=rank, world=world)
        save_file(found, Path(folder) / f"{name}.{rank}.safetensors")
    distributed.destroy_process_group()


def trained(name: str, *, rank: int, world: int) -> dict[str, Tensor]:
    """Weights after some steps, and the loss of each."""
    network = new_network("abmil", dim=DIM, cell=1.0, seed=0)
    width = network.width
    assert isinstance(width, int)
    learner = new_objective(
        name, network, width=width, temperature=0.1, seed=1, gather=world > 1
    )  # fmt: skip
    shared: nn.Module = learner
    if world > 1:
        synchronise(learner)
        shared = DistributedDataParallel(learner)
    optimiser = torch.optim.SGD(learner.parameters(), lr=LR)
    losses = []
    for step in range(STEPS):
        views = (view(2 * step + number, rank=rank, world=world) for number in (0, 1))
        optimiser.zero_grad()
        loss = shared(ViewPair(*views))[0]
        loss.backward()
        optimiser.step()
        whole = loss.detach().clone()
        if world > 1:
            distributed.all_reduce(whole)
        losses.append(whole / world)
    weights = {title: value.detach().clone() for title, value in learner.named_parameters()}
    return {**weights, "losses": torch.stack(losses)}
