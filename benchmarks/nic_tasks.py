"""What nic-cnn learns of synthetic slides of digits: N5, N6, N8 and M3 of the specification.

    python -m benchmarks.nic_tasks [--tasks easy curve share survival] [--codes vae untrained mean]
        [--seeds 3] [--steps 2500] [--train 4000] [--epochs 10] [--crop 32]

Slides of 32 × 32 cells of 8 px, scikit-learn's digits; test slides show digits that nothing else
saw. ``easy``: the class of the tilted rectangle, of four. ``curve``: the harder slides at 250, 500
and 1,500 with as many updates. ``share``: regression on the share of one digit. ``survival``: times
whose hazard is that share, against the share itself. Codes of 16 numbers a cell: of a VAE trained
on patches, of the same network untrained, and the mean intensity. Where the untrained one passes a
threshold too, what counts is the difference from it.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from lifelines.statistics import logrank_test
from scipy.stats import spearmanr

from benchmarks.nic_encoders import (
    CELL_PX,
    DIGIT_NETWORKS,
    DIGIT_OPTIONS,
    Pairs,
    Training,
    codes_of,
)
from benchmarks.report import line
from gigassl.evaluate.mil.crops import settled
from gigassl.evaluate.mil.grid_cnn import LEAST_CROP
from gigassl.evaluate.mil.run import reader_of, run_mil, settings_for
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.evaluate.mil.training import FittedMil, fit_mil
from gigassl.evaluate.simulated_survival import simulate_survival
from gigassl.evaluate.split import Split
from gigassl.evaluate.task import Kind, Task
from gigassl.slides.digit_layout import DIGIT_SLIDE_PRESETS, DigitSlideSettings
from gigassl.slides.digit_patches import draw_patches
from gigassl.slides.digit_slides import DigitSlides, draw_mixtures, draw_slides
from gigassl.slides.digits import read_digits
from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.vectors.tile_store import TileStore

CELLS, N_TEST, CURVE = 32, 600, (250, 500, 1500)
VIEWS = AugmentationSettings(crop_area=(0.7, 1.0), jitter_p=0.0, grey_p=0.0, blur_p=0.0)


@dataclass(frozen=True, kw_only=True)
class Set:
    """Slides to learn from, then as many to be tested on."""

    tiles: np.ndarray
    labels: np.ndarray
    share: np.ndarray
    n_train: int

    def first(self, n: int) -> "Set":
        """As if there were only so many to learn from."""
        kept = np.r_[:n, self.n_train : len(self.labels)]
        return Set(tiles=self.tiles[kept], labels=self.labels[kept], share=self.share[kept],
                   n_train=n)  # fmt: skip


def slides_of(settings: DigitSlideSettings, *, n_train: int, n_test: int, seed: int,
              mixtures: bool = False) -> Set:  # fmt: skip
    """Training slides, then test slides of other digits, cut into cells."""
    sets, draw = read_digits(), draw_mixtures if mixtures else draw_slides
    parts: list[DigitSlides] = [
        draw(settings, sets.train, n=n_train, seed=seed),
        draw(settings, sets.test, n=n_test, seed=seed, first=n_train),
    ]
    images = np.concatenate([part.images for part in parts])
    cut = images.reshape(len(images), CELLS, CELL_PX, CELLS, CELL_PX).swapaxes(2, 3)
    return Set(
        tiles=cut.reshape(len(images), -1, CELL_PX, CELL_PX),
        labels=np.concatenate([part.labels for part in parts]),
        share=np.concatenate([part.shares[:, settings.classes[-1]] for part in parts]),
        n_train=n_train,
    )


def encoder(steps: int, *, seed: int) -> torch.nn.Module:
    """A VAE of cells after so many steps; untrained for 0."""
    training = Training(
        method="vae", architecture=DIGIT_NETWORKS["vae"], options=DIGIT_OPTIONS["vae"],
        drawn=VIEWS, steps=steps, out=Path("nic_tasks"),
    )  # fmt: skip
    if steps == 0:
        return training.network(px=CELL_PX, seed=seed)
    wanted = replace(DIGIT_SLIDE_PRESETS["easy"], classes=tuple(range(10)))
    drawn = draw_patches(wanted, read_digits().train, n=6400, seed=seed)
    source = Pairs(_rgb(drawn.patches), _rgb(drawn.neighbours), drawn.slides)
    return training.trained(source, seed=seed)[0]


def _rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=3)


def coded(tiles: np.ndarray, network: torch.nn.Module | None) -> np.ndarray:
    """Codes of the cells of each slide; their mean intensity without a network."""
    if network is None:
        return np.asarray(tiles.mean(axis=(2, 3))[..., None] / 127.5 - 1, dtype=np.float16)
    return np.stack([codes_of(network, _rgb(each)) for each in tiles]).astype(np.float16)


def store_of(codes: np.ndarray) -> TileStore:
    """Compressed slides without turned variants."""
    n_slides, n_cells, dim = codes.shape
    names = tuple(f"s{number}" for number in range(n_slides))
    cells = torch.cartesian_prod(torch.arange(CELLS), torch.arange(CELLS)).int()
    return TileStore(
        features=torch.from_numpy(codes.reshape(-1, dim)),
        coords=torch.zeros(n_slides * n_cells, 2), um_per_unit=torch.ones(n_slides),
        first=torch.arange(n_slides)[:, None] * n_cells,
        count=torch.full((n_slides, 1), n_cells), slide_ids=names, patient_ids=names, tile_um=1.0,
        cells=cells.repeat(n_slides, 1), shapes=torch.full((n_slides, 1, 2), CELLS),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the CNN is trained: epochs, side of its crops, seed, epochs until the rate falls."""

    epochs: int
    crop: int | None
    seed: int
    plateau: int = 2

    def run(self, kind: Kind, store: TileStore, target: np.ndarray, *, n_train: int,
            event: np.ndarray | None = None) -> pa.Table:  # fmt: skip
        """Predictions of the test slides."""
        task, split = asked(kind, store, target, n_train=n_train, event=event)
        return run_mil(task, store, [split], settings=self.settings(kind))

    def fitted(
        self, kind: Kind, store: TileStore, target: np.ndarray, *, n_train: int
    ) -> FittedMil:
        """The CNN itself."""
        task, split = asked(kind, store, target, n_train=n_train)
        settings = settled(self.settings(kind), store)
        return fit_mil(task, split, reader_of(task, store, device="cpu"), settings=settings)

    def settings(self, kind: Kind) -> MilSettings:
        """Those of ``gigassl mil``, with the patience of a short training.

        Survival compares patients with one another: of 16, or of 50 held out, too few are.
        """
        chosen = replace(
            settings_for("nic-cnn", kind), epochs=self.epochs, validation=0.1, seed=self.seed,
            options={} if self.crop is None else {"crop": self.crop},
            plateau=self.plateau, device="cpu",
        )  # fmt: skip
        if kind != "survival":
            return chosen
        return replace(chosen, batch_size=64, validation=0.25, plateau=4)

    def accuracy(self, store: TileStore, given: Set) -> float:
        rows = self.run("classification", store, given.labels, n_train=given.n_train)
        names = [name for name in rows.column_names if name.startswith("p_")]
        said = np.stack([rows[name].to_numpy() for name in names], axis=1).argmax(axis=1)
        return float(np.mean(said == given.labels[given.n_train :]))


def asked(kind: Kind, store: TileStore, target: np.ndarray, *, n_train: int,
          event: np.ndarray | None = None) -> tuple[Task, Split]:  # fmt: skip
    """A task of all slides, and its split: the first ``n_train`` to learn from."""
    classes = tuple(str(k) for k in np.unique(target)) if kind == "classification" else ()
    task = Task(
        name="toy", kind=kind, slide_ids=store.slide_ids, patient_ids=store.patient_ids,
        sites=("",) * len(store), classes=classes, target=target.astype(np.float64), event=event,
    )  # fmt: skip
    return task, Split(scheme="x", train=np.arange(n_train), test=np.arange(n_train, len(store)))


def concordance(time_: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """Share of comparable pairs whose order the risk gives (Harrell)."""
    earlier = (time_[:, None] < time_[None, :]) & event[:, None]
    right = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return float(right[earlier].mean())


def easy(networks: Mapping[str, torch.nn.Module | None], recipe: Recipe, *, n_train: int) -> None:
    """N5."""
    given = slides_of(
        DIGIT_SLIDE_PRESETS["easy"], n_train=n_train, n_test=N_TEST, seed=recipe.seed
    )  # fmt: skip
    for name, network in networks.items():
        start = time.process_time()
        found = recipe.accuracy(store_of(coded(given.tiles, network)), given)
        line(f"easy, {n_train} slides, {name}, seed {recipe.seed}: accuracy", found,
             unit=f"({time.process_time() - start:.0f} s)")  # fmt: skip


def curve(networks: Mapping[str, torch.nn.Module | None], recipe: Recipe, *, n_train: int) -> None:
    """N6; as many updates at each size."""
    whole = slides_of(
        DIGIT_SLIDE_PRESETS["standard"], n_train=CURVE[-1], n_test=N_TEST, seed=recipe.seed
    )  # fmt: skip
    updates = recipe.epochs * n_train
    for name, network in networks.items():
        codes = coded(whole.tiles, network)
        for n in CURVE:
            given = whole.first(n)
            kept = np.r_[:n, whole.n_train : len(codes)]
            epochs = round(updates / n)
            own = replace(recipe, epochs=epochs, plateau=max(2, epochs // 5))
            found = own.accuracy(store_of(codes[kept]), given)
            line(f"standard, {n} slides, {name}, seed {recipe.seed}: accuracy", found, unit="")


def share(networks: Mapping[str, torch.nn.Module | None], recipe: Recipe, *, n_train: int) -> None:
    """N8."""
    given = _mixtures(recipe)
    own = replace(recipe, epochs=_epochs(recipe, n_train))
    for name, network in networks.items():
        store = store_of(coded(given.tiles, network))
        rows = own.run("regression", store, given.share, n_train=given.n_train)
        found = spearmanr(rows["value"].to_numpy(), given.share[given.n_train :]).statistic
        line(f"share of a digit, {name}, seed {recipe.seed}: Spearman", float(found), unit="")


def survival(
    networks: Mapping[str, torch.nn.Module | None], recipe: Recipe, *, n_train: int
) -> None:
    """M3."""
    given = _mixtures(recipe)
    # parts of a slide, another one each time: whole ones are learned by heart, times and all
    own = replace(recipe, epochs=_epochs(recipe, n_train), crop=recipe.crop or LEAST_CROP)
    times = simulate_survival(given.share, seed=recipe.seed)
    tested = np.arange(given.n_train, len(given.share))
    seen = times.time[tested], times.event[tested]
    line(f"survival, the share itself, seed {recipe.seed}: C-index",
         concordance(*seen, times.log_hazard[tested]),
         unit=f"({1 - times.event.mean():.0%} censored)")  # fmt: skip
    for name, network in networks.items():
        store = store_of(coded(given.tiles, network))
        rows = own.run("survival", store, times.time, n_train=given.n_train, event=times.event)
        risk = rows["risk"].to_numpy()
        high = risk > np.median(risk)
        p = logrank_test(
            seen[0][high], seen[0][~high], seen[1][high], seen[1][~high]
        ).p_value  # fmt: skip
        line(f"survival, {name}, seed {recipe.seed}: C-index", concordance(*seen, risk),
             unit=f"(log-rank p {p:.1g})")  # fmt: skip


def _mixtures(recipe: Recipe) -> Set:
    wanted = DIGIT_SLIDE_PRESETS["standard"]
    return slides_of(wanted, n_train=500, n_test=300, seed=recipe.seed, mixtures=True)


def _epochs(recipe: Recipe, n_train: int) -> int:
    """As many updates as the slides of the first task take, at 500 slides; 60 at most."""
    return min(60, round(recipe.epochs * n_train / 500))


TASKS = {"easy": easy, "curve": curve, "share": share, "survival": survival}


def networks_for(
    names: Sequence[str], *, steps: int, seed: int
) -> dict[str, torch.nn.Module | None]:
    """Encoders by name; None for the mean intensity."""
    made = {"vae": steps, "untrained": 0}
    return {name: encoder(made[name], seed=seed) if name in made else None for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--codes", nargs="+", default=["vae", "untrained", "mean"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--crop", type=int)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for seed in range(options.seeds):
        networks = networks_for(options.codes, steps=options.steps, seed=seed)
        recipe = Recipe(epochs=options.epochs, crop=options.crop, seed=seed)
        for name in options.tasks:
            TASKS[name](networks, recipe, n_train=options.train)


if __name__ == "__main__":
    main()
