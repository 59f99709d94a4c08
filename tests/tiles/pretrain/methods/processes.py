"""What one of several processes does that train a method together; run by spawn."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tests.synced_norm import synchronise
from tests.tiles.pretrain.methods.cases import method, step_of, toy_views

TILES, STEPS, LR = 8, 3, 0.05


def train(rank: int, world: int, names: tuple[str, ...], folder: str) -> None:
    """Trains each method for a few steps on this process' part; saves losses and gradients."""
    torch.set_num_threads(1)
    if world > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
        )
    for name in names:
        found = trained(name, rank=rank, world=world)
        save_file(found, Path(folder) / f"{name}.{rank}.safetensors")
    if world > 1:
        distributed.destroy_process_group()


def trained(name: str, *, rank: int, world: int) -> dict[str, Tensor]:
    learner = method(name.removesuffix("+norm"), batch_size=TILES, steps=100, gather=world > 1)
    if world > 1 and name.endswith("+norm"):
        synchronise(learner)
    shared: nn.Module = DistributedDataParallel(learner) if world > 1 else learner
    optimiser = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], lr=LR)
    found: dict[str, Tensor] = {}
    losses = []
    for step in range(STEPS):
        views = toy_views(TILES, name=name, seed=step)
        mine = [view[rank::world] for view in views]
        loss = step_of(shared, mine, progress=step / STEPS, seed=step)
        loss.backward()
        if step == 0:
            found |= {
                n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None
            }
        learner.before_step(step / STEPS)
        optimiser.step()
        optimiser.zero_grad()
        learner.after_step((step + 1) / STEPS)
        whole = loss.detach().clone()
        if world > 1:
            distributed.all_reduce(whole)
        losses.append(whole / world)
    return {**found, "losses": torch.stack(losses)}
