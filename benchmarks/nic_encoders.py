"""Do the encoders of neural image compression learn: digits by a probe (N3), redrawn (N4).

    python -m benchmarks.nic_encoders [--methods vae,bigan] [--steps 2500] [--seeds 3]
        [--adjacent 0.75]

Cells of synthetic slides, 16 numbers a cell of 8 px, the small networks of the synthetic task, and
a logistic probe on digits that no encoder saw. Beside each the same network with random weights,
and mean intensity. The VAE's error is held against that of the mean tile.
"""

import argparse
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# as the program does, before torch loads: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmarks.report import line
from gigassl.slides.digit_layout import DIGIT_SLIDE_PRESETS
from gigassl.slides.digit_patches import draw_patches
from gigassl.slides.digits import read_digits
from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.tiles.pretrain.catalogue import METHOD_PRESETS, new_method
from gigassl.tiles.pretrain.methods.vae import Vae
from gigassl.tiles.pretrain.options import TileTrainingOptions
from gigassl.tiles.pretrain.settings import Number, TileViewSettings
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch
from gigassl.tiles.pretrain.train import pretrain_tile_encoder
from gigassl.tiles.records import HALF
from gigassl.tiles.training_networks import TileNetwork, begun_network
from gigassl.tiles.weights import load_checkpoint

CELL_PX = 8
METHODS = ("vae", "contrastive", "bigan")
DIGIT_NETWORKS: Mapping[str, str] = {
    "vae": "nic:vae?code=16,convolutions=2,dense=64,channels=1",
    "contrastive": "nic:vae?code=16,convolutions=2,dense=64,channels=1",
    "bigan": "nic:bigan?code=16,convolutions=2,filters=32,pool=1,channels=1",
}
DIGIT_OPTIONS: Mapping[str, Mapping[str, Number]] = {
    "vae": {"decoder": 2048},
    # cells side by side in a rectangle hold one digit: to tell them apart, as three in four pairs
    # of the published training, teaches to overlook the class (--adjacent 0.75 shows it)
    "contrastive": {"adjacent": 0.0},
    "bigan": {"generator": 512, "discriminator": 128},
}

Tiles = UInt8[np.ndarray, "tile row col 3"]
Codes = Float32[np.ndarray, "tile code"]


class Pairs:
    """Tiles in memory, each beside the one that lies next to it; a source of batches.

    Args:
        groups: slide or patient of each.
    """

    def __init__(self, tiles: Tiles, beside: Tiles, groups: Int64[np.ndarray, " tile"]) -> None:
        found, self._file = np.unique(groups, return_inverse=True)
        self._tiles, self._beside, self._groups = tiles, beside, groups
        self.names: Sequence[str] = tuple(map(str, found))
        self.patient_ids: Sequence[str] = self.names
        self.n_tiles, self.tile_px, self.digest = len(tiles), tiles.shape[1], ""

    def some(self, files: Sequence[int]) -> "Pairs":
        """The same of some slides or patients."""
        own = np.isin(self._file, list(files))
        return Pairs(self._tiles[own], self._beside[own], self._groups[own])

    def batches(self, plan: BatchPlan) -> Iterator[TileBatch]:
        """Batches of different tiles; batch ``k`` of a seed knows nothing of the others."""
        for number in range(plan.first, plan.last):
            rng = np.random.default_rng([plan.seed, number])
            drawn = rng.choice(self.n_tiles, plan.size, replace=plan.size > self.n_tiles)
            yield TileBatch(
                torch.from_numpy(self._tiles[drawn]), file=torch.from_numpy(self._file[drawn]),
                partners=torch.from_numpy(self._beside[drawn]),
                beside=torch.ones(len(drawn), dtype=torch.bool),
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Training:
    """How one encoder is trained here.

    Attributes:
        method: a name of ``METHODS``.
        architecture: of the network.
        options: of the method.
        drawn: what views are drawn from.
        steps: of the optimiser.
        out: folder for pictures and weights.
    """

    method: str
    architecture: str
    options: Mapping[str, Number]
    drawn: AugmentationSettings
    steps: int
    out: Path

    def network(self, *, px: int, seed: int) -> nn.Module:
        """The network as training finds it."""
        chosen = TileNetwork(architecture=self.architecture)
        return begun_network(chosen, sides_px=[px], seed=seed).network

    def trained(self, source: Pairs, *, seed: int) -> tuple[nn.Module, Vae | None]:
        """The encoder that the method keeps, and the whole VAE where it is one."""
        self.out.mkdir(parents=True, exist_ok=True)
        best = self.out / f"{self.method}-{seed}.safetensors"
        network = self.network(px=source.tile_px, seed=seed)
        views = TileViewSettings(first=self.drawn, second=self.drawn, side_px=source.tile_px)
        settings = replace(
            METHOD_PRESETS[self.method], options=self.options, views=views, steps=self.steps,
            seed=seed,
        )  # fmt: skip
        method = new_method(settings, network, width=_width(network), steps=self.steps)
        done = pretrain_tile_encoder(
            source, method, settings=settings, mean=HALF[0], std=HALF[1],
            options=TileTrainingOptions(best=best, pictures=self.out),
        )  # fmt: skip
        if done.stopped_by is not None:
            raise SystemExit(130)
        if settings.validation and best.is_file():
            network.load_state_dict(load_checkpoint(best).tensors)
        return network, method if isinstance(method, Vae) else None


def _width(network: nn.Module) -> int:
    code = network.get_submodule("code")
    assert isinstance(code, nn.Linear)
    return code.out_features


@torch.inference_mode()
def codes_of(network: nn.Module, tiles: Tiles) -> Codes:
    """Codes of tiles, scaled to [-1, 1] as all of these encoders see them."""
    network.eval()
    parts = [network(_scaled(tiles[k : k + 256])).numpy() for k in range(0, len(tiles), 256)]
    return np.concatenate(parts)


def _scaled(tiles: Tiles) -> torch.Tensor:
    return torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 127.5 - 1.0


@torch.inference_mode()
def error_shares(method: Vae, *, learned: Tiles, seen: Tiles) -> float:
    """Error of held-out tiles redrawn, as a share of what the mean tile makes."""
    method.eval()
    network = method.encoder
    images, mean = network.seen(_scaled(seen)), network.seen(_scaled(learned)).mean(dim=0)
    error = (method.decoder(network(_scaled(seen))) - images).square().mean()
    return float(error / (mean - images).square().mean())


def _rgb(grey: UInt8[np.ndarray, "tile row col"]) -> Tiles:
    return np.repeat(grey[..., None], 3, axis=3)


def _probe() -> LogisticRegression:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def digits(
    methods: Mapping[str, Mapping[str, Number]], *, steps: int, seeds: range, out: Path
) -> None:
    """Probe accuracy on digits that no encoder saw.

    Args:
        methods: name → options.
    """
    sets = read_digits()
    settings = replace(DIGIT_SLIDE_PRESETS["easy"], classes=tuple(range(10)))
    drawn = draw_patches(settings, sets.train, n=6400, seed=0)
    source = Pairs(_rgb(drawn.patches), _rgb(drawn.neighbours), drawn.slides)
    learned, seen = (_rgb(each.of_side(CELL_PX).images) for each in (sets.train, sets.test))

    def accuracy(train: np.ndarray, test: np.ndarray) -> float:
        return float(_probe().fit(train, sets.train.labels).score(test, sets.test.labels))

    line("mean intensity", accuracy(*(t.mean(axis=(1, 2)) for t in (learned, seen))), unit="")
    views = AugmentationSettings(crop_area=(0.7, 1.0), jitter_p=0.0, grey_p=0.0, blur_p=0.0)
    for name, chosen in methods.items():
        training = Training(
            method=name, architecture=DIGIT_NETWORKS[name], options=chosen,
            drawn=views, steps=steps, out=out / "digits",
        )  # fmt: skip
        for seed in seeds:
            fresh = training.network(px=CELL_PX, seed=seed)
            begun = accuracy(codes_of(fresh, learned), codes_of(fresh, seen))
            start = time.process_time()
            network, vae = training.trained(source, seed=seed)
            seconds = time.process_time() - start
            found = accuracy(codes_of(network, learned), codes_of(network, seen))
            line(f"{name}, seed {seed}", found, unit=f"({begun:.3f} untrained, {seconds:.0f} s)")
            if vae is not None:
                share = error_shares(vae, learned=source._tiles, seen=seen)
                line("  error of held-out digits over that of the mean", share, unit="")


def main() -> None:
    """Reads what is wanted and prints a line a number."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--methods", default=",".join(METHODS))
    options.add_argument("--steps", type=int, default=2500)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--adjacent", type=float, help="share of contrastive negatives beside")
    options.add_argument("--out", type=Path, default=Path("nic_encoders"))
    asked = options.parse_args()
    torch.set_num_threads(1)
    changed = {} if asked.adjacent is None else {"adjacent": asked.adjacent}
    with_options = {**DIGIT_OPTIONS, "contrastive": {**DIGIT_OPTIONS["contrastive"], **changed}}
    digits(
        {name: with_options[name] for name in asked.methods.split(",")}, steps=asked.steps,
        seeds=range(asked.seeds), out=asked.out,
    )  # fmt: skip


if __name__ == "__main__":
    main()
