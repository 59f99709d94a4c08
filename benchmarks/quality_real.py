"""What slide encoders are worth on real tissue, with every control beside them.

    python benchmarks/quality_real.py --shared DIR --cache DIR [--sets glas128,glas64,glas32,idc]

GlaS: benign or malignant of 165 images from 16 patients, as bags of tiles of 32, 64 and 128 px.
IDC: the label of a hidden patch from the other patches of its patient, 279 patients. Tiles are
encoded by the bundled EfficientNet-Lite0 once, into the cache. Slide encoders are pretrained on
the bags without labels. One logistic regression on scaled vectors judges all, its C chosen in the
training folds; patients are kept together in folds, and drawn as wholes for the intervals.
"""

import argparse
import logging
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

# as the program does, before torch loads: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from benchmarks.quality_data import FeatureSet, glas, idc
from benchmarks.quality_hidden import hidden_tile_vectors, window_vectors
from benchmarks.quality_models import (
    DENSE,
    NEIGHBOURS,
    SIMCLR,
    Vectors,
    arrangement,
    embedded,
    histogram,
    in_views,
    plain,
    prepare,
    tile_count,
    trained,
)
from benchmarks.quality_scores import Scores, difference, probe
from gigassl.vectors.pretrain.settings import LR_BATCH
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.tile_store import TileStore
from gigassl.vectors.views import ViewSettings
from gigassl.vectors.whitening import Whitening

_KEPT = 256
_STEPS = 240
_TUNED = "mean+std"


def store_of(found: FeatureSet, *, kept: int = _KEPT) -> TileStore:
    """The tiles as views are drawn from them, on that many principal components."""
    features = torch.from_numpy(found.features)
    whitening = Whitening(dim=features.shape[1], kept=kept)
    whitening.prepare(features[:: max(1, len(features) // 20_000)])
    counts = torch.from_numpy(np.bincount(found.bag))
    return TileStore(
        # principal components at their own scale: small ones are mostly noise
        features=whitening(features) / whitening.components.norm(dim=1),
        coords=torch.from_numpy(found.coords),
        um_per_unit=torch.ones(len(counts)),
        first=(counts.cumsum(0) - counts)[:, None],
        count=counts[:, None],
        slide_ids=tuple(found.names),
        patient_ids=tuple(found.patients),
        tile_um=float(found.tile_px),
    )


def glas_vectors(found: FeatureSet, *, seed: int) -> dict[str, Vectors]:
    """All rows of the table for one seed of weights and views."""
    store = store_of(found)
    raw = replace(store, features=torch.from_numpy(found.features))
    lags = prepare(new_network("lags", dim=store.dim, cell=store.tile_um, seed=0), store,
                   seed=seed)  # fmt: skip
    vectors = {
        "tile count": tile_count(store),
        "mean": plain(raw, "mean"),
        _TUNED: plain(raw, "mean+std"),
        "prototype histogram": histogram(store, seed=seed),
        "lag covariances": embedded(lags, store),
        "lag covariances, coordinates shuffled": embedded(lags, store, shuffled=seed),
    }
    return vectors | published_vectors(store, seed=seed) | spatial_vectors(store, seed=seed)


_FIVE = "scm, 5 scattered tiles"
_PUBLISHED = {
    "mlp": (ViewSettings(tiles=16), _STEPS // 2),
    "scm": (replace(DENSE, tiles=16), _STEPS // 6),
    _FIVE: (ViewSettings(), _STEPS // 2),
}
"""Name → views and steps of training: the last as published, the one before sees neighbours."""


def published_vectors(store: TileStore, *, seed: int) -> dict[str, Vectors]:
    """The published slide encoders, random and pretrained, embedded in views as in training."""
    found = {}
    for name, (views, steps) in _PUBLISHED.items():
        n_patients = len(set(store.patient_ids))
        batch = min(SIMCLR.batch_size, n_patients)
        # an epoch is one batch for each image that a patient has
        epochs = max(1, steps * batch // len(store))
        settings = replace(SIMCLR, views=views, epochs=epochs, batch_size=batch)
        settings = replace(settings, lr=0.001 * LR_BATCH / batch)
        both = trained(name.partition(",")[0], store, settings=settings, seed=seed)
        for state, network in (("random", both.random), ("pretrained", both.pretrained)):
            found[f"{name}, {state}"] = in_views(network, store, views=views, seed=seed)
        if views.window == "dense":
            found[f"{name}, pretrained, coordinates shuffled"] = in_views(
                both.pretrained, store, views=views, seed=seed, shuffled=seed
            )
    return found


def spatial_vectors(store: TileStore, *, seed: int) -> dict[str, Vectors]:
    """The spatial slide encoder: whole, its arrangement stream, and the controls of that."""
    # "neighbours" compares no slides, so those of one patient may share a batch
    apart = replace(store, patient_ids=store.slide_ids)
    epochs = _STEPS * NEIGHBOURS.batch_size // len(store)
    both = trained("spatial", apart, settings=replace(NEIGHBOURS, epochs=epochs), seed=seed)
    return {
        "spatial, arrangement only, random": embedded(arrangement(both.random), store),
        "spatial, arrangement only, shuffled": embedded(
            arrangement(both.pretrained), store, shuffled=seed
        ),
        "spatial, arrangement only": embedded(arrangement(both.pretrained), store),
        "spatial": embedded(both.pretrained, store),
    }


def probe_by_mlp(vectors: Vectors, labels: np.ndarray, groups: np.ndarray, *, seed: int) -> Scores:
    """A small network on scaled vectors in place of the logistic regression: "mean + MLP"."""
    logit, where = np.zeros(len(labels)), np.zeros(len(labels), np.int64)
    outer = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    for number, (train, test) in enumerate(outer.split(vectors, labels, groups)):
        scaler = StandardScaler().fit(vectors[train])
        network = MLPClassifier((32,), alpha=1.0, max_iter=300, tol=1e-3, random_state=seed)
        network.fit(scaler.transform(vectors[train]), labels[train])
        chance = network.predict_proba(scaler.transform(vectors[test]))[:, 1].clip(1e-6, 1 - 1e-6)
        logit[test] = np.log(chance / (1 - chance))
        where[test] = number
    return Scores(logit=logit, fold=where, labels=labels, groups=groups)


def show(title: str, runs: Mapping[str, list[Scores]], *, against: str) -> None:
    """One row a kind of vector: AUCs, and the difference to the tuned control."""
    print(f"\n{title}\n{'':44} {'pooled':>7} {'folds':>7}   difference to {against}")
    for name, scores in runs.items():
        pooled = np.mean([each.pooled for each in scores])
        fold_mean = np.mean([each.fold_mean for each in scores])
        found = difference(scores, runs[against], draws=500)
        print(f"{name:44} {pooled:>7.3f} {fold_mean:>7.3f}   {found}", flush=True)


def claims(runs: Mapping[str, list[Scores]], *pairs: tuple[str, str, str]) -> None:
    for said, ours, theirs in pairs:
        print(f"{said:44} {difference(runs[ours], runs[theirs], draws=500)}", flush=True)


def run_glas(found: FeatureSet, *, seeds: range) -> None:
    groups = np.unique(found.patients, return_inverse=True)[1]
    runs = defaultdict(list)
    for seed in seeds:
        vectors = glas_vectors(found, seed=seed)
        for name, each in vectors.items():
            first = 2 * _KEPT if name == "spatial" else None
            runs[name].append(probe(each, found.labels, groups, seed=seed, first_block=first))
        for name in ("lag covariances", "spatial, arrangement only"):
            both = np.concatenate([vectors[_TUNED], vectors[name]], axis=1)
            width = vectors[_TUNED].shape[1]
            runs[f"mean+std and {name}, weighted"].append(
                probe(both, found.labels, groups, seed=seed, first_block=width)
            )
        mlp = probe_by_mlp(vectors["mean"], found.labels, groups, seed=seed)
        runs["mean + MLP"].append(mlp)
    tiles = len(found.features) // len(found.labels)
    title = f"GlaS, tiles of {found.tile_px} px, about {tiles} a bag, {len(seeds)} seeds"
    show(title, runs, against=_TUNED)
    only = "spatial, arrangement only"
    claims(
        runs,
        ("position: true - shuffled", only, f"{only}, shuffled"),
        ("learned: pretrained - random", only, f"{only}, random"),
        ("mlp: pretrained - random", "mlp, pretrained", "mlp, random"),
        ("scm: pretrained - random", "scm, pretrained", "scm, random"),
        ("scm: true - shuffled", "scm, pretrained", "scm, pretrained, coordinates shuffled"),
        ("scm, 5 tiles: pretrained - random", f"{_FIVE}, pretrained", f"{_FIVE}, random"),
    )


def run_idc(found: FeatureSet, *, seeds: range) -> None:
    store = store_of(found, kept=64)
    groups = found.bag
    runs = defaultdict(list)
    for seed in seeds:
        vectors = hidden_tile_vectors(store, labels=found.tile_label, seed=seed)
        vectors |= window_vectors(store, seed=seed)
        for name, each in vectors.items():
            runs[name].append(probe(each, found.tile_label, groups, seed=seed))
    show(f"IDC, label of a hidden patch, {len(seeds)} seeds", runs, against="others: mean+std")
    claims(
        runs,
        ("position: true - shuffled", "near: learned features",
         "near: learned features, shuffled"),
        ("learned: pretrained - random", "near: learned features", "near: random features"),
        ("learned - whitened features", "near: learned features", "near: whitened features"),
    )  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--shared", default=os.environ.get("GIGASSL_SHARED", "../shared"))
    options.add_argument("--cache", required=True, help="folder for tile features")
    options.add_argument("--sets", default="glas128,glas64,glas32,idc")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    logging.getLogger("gigassl").setLevel(logging.ERROR)
    shared, cache, seeds = Path(given.shared), Path(given.cache), range(given.seeds)
    for name in given.sets.split(","):
        if name == "idc":
            run_idc(idc(shared, cache), seeds=seeds)
        else:
            run_glas(glas(shared, cache, tile_px=int(name.removeprefix("glas"))), seeds=seeds)


if __name__ == "__main__":
    main()
