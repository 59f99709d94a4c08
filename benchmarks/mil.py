"""Training ABMIL at 8 bags a batch, against torchmil, and the loss curves of both.

    python -m benchmarks.mil [--bags 100] [--epochs 5] [--reps 3] [--threads 2]

100 bags of 300 to 1,700 tiles of 256 numbers. The networks are equal (tanh attention of width 128
on the tiles as they are, one linear layer), and so are initial weights, order of bags and
optimiser, so the losses must be equal to rounding: that is checked before anything is timed.
Contenders take turns. torchmil's plain loop is its model and its collate function in a loop as its
documentation writes it. Its Trainer also makes a pass over the bags that it calls validation, in
training mode: shown by counting. "products alone" is the limit: the same matrix products on rows in
place. Peak memory is that of a fresh process.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as `gigassl mil` does

import argparse
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from tensordict import TensorDict
from torch import nn
from torch.utils.data import DataLoader
from torchmil.data import collate_fn
from torchmil.models import ABMIL
from torchmil.utils.trainer import Trainer

from benchmarks.report import line
from benchmarks.sparse_conv import interleaved, medians, memory_mib
from gigassl.evaluate.mil.run import reader_of
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.evaluate.mil.training import MilTraining
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Task
from gigassl.training.optimisers import new_optimiser
from gigassl.vectors.matmul import fast_matmul
from gigassl.vectors.tile_store import TileStore

DIM, HIDDEN, BATCH, LR = 256, 128, 8, 1e-4
SETTINGS = MilSettings(
    model="abmil", options={"embed": (), "hidden": HIDDEN}, batch_size=BATCH, lr=LR,
    weight_decay=0.01, schedule="constant", balance="none", validation=0.0, max_tiles=None,
    device="cpu",
)  # fmt: skip


def cohort(n_bags: int) -> tuple[Task, TileStore]:
    """Bags of noise, in which some tiles of every second one lean one way."""
    generator = np.random.default_rng(0)
    count = generator.integers(300, 1701, n_bags)
    first = np.cumsum(count) - count
    features = generator.normal(size=(int(count.sum()), DIM)).astype(np.float16)
    for number in range(0, n_bags, 2):
        features[first[number] : first[number] + 60, :8] += 1
    names = tuple(f"s{number}" for number in range(n_bags))
    task = Task(
        name="toy", kind="classification", slide_ids=names, patient_ids=names,
        sites=("",) * n_bags, classes=("a", "b"), target=(np.arange(n_bags) % 2).astype(float),
    )  # fmt: skip
    store = TileStore(
        features=torch.from_numpy(features), coords=torch.zeros(len(features), 2),
        um_per_unit=torch.ones(n_bags), first=torch.from_numpy(first)[:, None],
        count=torch.from_numpy(count)[:, None], slide_ids=names, patient_ids=names, tile_um=1.0,
    )  # fmt: skip
    return task, store


def split_of(task: Task) -> Split:
    # a split wants a test row, which is never trained on: the last one
    return Split(scheme="bench", train=np.arange(len(task) - 1), test=np.array([len(task) - 1]))


def our_training(task: Task, store: TileStore) -> MilTraining:
    return MilTraining(
        task, split_of(task), reader_of(task, store, device="cpu"), settings=SETTINGS
    )


class Peer:
    """torchmil's ABMIL, started with our weights and fed in our order."""

    def __init__(self, training: MilTraining, store: TileStore, *, dropout: float = 0.0) -> None:
        self.dropout = nn.Dropout(dropout)
        self.network: nn.Module = ABMIL(in_shape=(DIM,), att_dim=HIDDEN, feat_ext=self.dropout)
        ours, theirs = training.model.state_dict(), self.network.state_dict()
        pairs = zip(theirs, ours.values(), strict=True)  # in both: attention, score, head
        self.network.load_state_dict({name: value.clone() for name, value in pairs})
        self.optimiser = new_optimiser(
            "adamw", self.network, lr=LR, weight_decay=SETTINGS.weight_decay
        )
        spans = zip(store.first[:, 0].tolist(), store.count[:, 0].tolist(), strict=True)
        self.bags = [store.features[first : first + count].float() for first, count in spans]

    def __len__(self) -> int:
        return len(self.bags)

    def __getitem__(self, number: int) -> TensorDict:
        return TensorDict({"X": self.bags[number], "Y": torch.tensor(number % 2)})

    def loader(self, order: list[int]) -> DataLoader[TensorDict]:
        batches = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
        return DataLoader(self, batch_sampler=batches, collate_fn=collate_fn)  # type: ignore[arg-type]

    def epoch(self, order: list[int]) -> float:
        """A loop as its documentation writes it."""
        self.network.train()
        losses = []
        for batch in self.loader(order):
            self.optimiser.zero_grad()
            scores = self.network(batch["X"], batch["mask"])
            loss = nn.functional.binary_cross_entropy_with_logits(scores, batch["Y"].float())
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            losses.append(loss.item())
        return float(np.mean(losses))

    def trainer_epoch(self, order: list[int]) -> None:
        """Its Trainer: an epoch, then a pass over the same bags that it calls validation."""
        trainer = Trainer(
            self.network, self.optimiser, device="cpu", disable_pbar=True, verbose=False
        )
        trainer.train(1, self.loader(order))


def check_curves(task: Task, store: TileStore, *, epochs: int) -> None:
    """Prints the losses of both from equal weights in equal order; refuses unequal ones."""
    training = our_training(task, store)
    peer = Peer(training, store)
    running = training.epochs()
    for number in range(epochs):
        theirs = peer.epoch(training.order(number).tolist())
        with fast_matmul("cpu"):
            ours = next(running).train
        line(f"loss of epoch {number + 1}, ours", ours, unit="")
        line(f"loss of epoch {number + 1}, torchmil", theirs, unit="")
        if abs(ours - theirs) > 1e-4 * theirs:
            raise SystemExit(f"the losses differ: {ours} and {theirs}")


def show_training_mode(task: Task, store: TileStore) -> None:
    """How many of the passes of torchmil's validation run in training mode."""
    peer = Peer(our_training(task, store), store, dropout=0.5)
    modes: list[bool] = []
    peer.dropout.register_forward_hook(lambda module, _given, _said: modes.append(module.training))
    peer.trainer_epoch(list(range(2 * BATCH)))
    validation = modes[len(modes) // 2 :]  # after as many of training
    line("torchmil's Trainer: passes of its validation", len(validation), unit="")
    line("of these in training mode (dropout on)", sum(validation), unit="")


def products(store: TileStore) -> tuple[Callable[[], None], float]:
    """The matrix products of an epoch on rows in place, and their number of operations."""
    n_rows = int(store.count.sum())
    rows = -(-n_rows * BATCH // len(store) // 64) * 64
    tiles, weight, grad = (
        torch.randn(rows, DIM),
        torch.randn(DIM, HIDDEN),
        torch.randn(rows, HIDDEN),
    )
    n_batches = -(-len(store) // BATCH)

    def run() -> None:
        for _ in range(n_batches):
            torch.mm(tiles, weight)
            torch.mm(tiles.T, grad)

    return run, 2.0 * 2 * n_batches * rows * DIM * HIDDEN


def measure(task: Task, store: TileStore, *, reps: int) -> None:
    training, other = our_training(task, store), our_training(task, store)
    plain, driven = Peer(training, store), Peer(training, store)
    orders = [training.order(rep).tolist() for rep in range(reps + 1)]
    ours, slower = training.epochs(), other.epochs()
    alone, flop = products(store)
    contenders: dict[str, tuple[Callable[[int], object], bool]] = {
        "ours": (lambda _rep: next(ours), True),
        "ours, PyTorch's default products": (lambda _rep: next(slower), False),
        "torchmil, plain loop": (lambda rep: plain.epoch(orders[rep]), False),
        "torchmil, plain loop, fast products": (lambda rep: plain.epoch(orders[rep]), True),
        "torchmil, Trainer": (lambda rep: driven.trainer_epoch(orders[rep]), False),
        "products alone": (lambda _rep: alone(), True),
    }
    times = medians(interleaved(contenders, reps=reps))
    for name, seconds in times.items():
        line(f"an epoch, {name}", seconds * 1e3, unit="ms")
    line("rate of products alone", flop / times["products alone"] / 1e9, unit="GFLOP/s")
    line("ours / products alone", times["products alone"] / times["ours"], unit="of the limit")
    for name in contenders:
        if name.startswith("torchmil"):
            line(f"{name} / ours", times[name] / times["ours"], unit="×")


def print_peak(who: str, n_bags: int) -> None:
    """MiB that this process grows by in an epoch, beyond bags and weights."""
    task, store = cohort(n_bags)
    training = our_training(task, store)
    peer = Peer(training, store)
    order, running = training.order(0).tolist(), training.epochs()
    with fast_matmul("cpu") if who == "ours" else nullcontext():
        torch.randn(512, 512) @ torch.randn(512, 512)  # libraries load with the first product
        before = memory_mib("VmRSS")
        _ = next(running) if who == "ours" else peer.epoch(order)
    print(memory_mib("VmHWM") - before)


def measure_peaks(n_bags: int) -> None:
    for who in ("ours", "torchmil"):
        command = [sys.executable, "-m", "benchmarks.mil", "--peak-of", who, "--bags", str(n_bags)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        line(f"peak memory of an epoch, {who}", float(done.stdout.split()[-1]), unit="MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bags", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--reps", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak-of", choices=["ours", "torchmil"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        print_peak(options.peak_of, options.bags)
        return
    task, store = cohort(options.bags)
    check_curves(task, store, epochs=options.epochs)
    show_training_mode(task, store)
    measure(task, store, reps=options.reps)
    measure_peaks(options.bags)


if __name__ == "__main__":
    main()
