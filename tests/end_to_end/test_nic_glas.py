"""The ranking of encoders on GlaS: on a small set painted here, and on GlaS itself."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.nic_glas import PROBES, ranking, scores_of
from benchmarks.nic_glas_report import MAIN, Ranked, as_markdown, rows_of, show
from benchmarks.nic_glas_training import (
    POOLINGS,
    TILE_PX,
    TRAININGS,
    GlasImages,
    NicTraining,
    Vectors,
    glas_images,
    image_vectors,
    on_one_thread,
    source_of,
    trained,
)
from benchmarks.nic_glas_vectors import (
    FOLDS,
    Plan,
    folds_of,
    random_vectors,
    seconds_of,
    train,
    untrained,
)
from benchmarks.quality_scores import Scores
from gigassl.tiles.pretrain.catalogue import METHOD_PRESETS
from gigassl.tiles.pretrain.held_out import divided
from gigassl.tiles.pretrain.settings import LR_BATCH
from tests.shared_data import SHARED, needs_shared

ROWS, COLS = 140, 300
TINY: Mapping[str, NicTraining] = {
    "VAE": NicTraining(
        method="vae", architecture="nic:vae?code=6,first=2,dense=8", steps=2, batch_size=4,
        precision="fp32",
    ),
    "contrastive": NicTraining(
        method="contrastive", architecture="nic:vae?code=6,first=2,dense=8", steps=2, batch_size=4,
        precision="fp32",
    ),
    "BiGAN": NicTraining(
        method="bigan", architecture="nic:bigan?code=6,filters=2,pool=4", steps=2, batch_size=4,
        precision="fp32",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of each of eight patients, in the layout of GlaS."""
    folder = tmp_path_factory.mktemp("shared")
    images = folder / "data" / "glas" / "images"
    images.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), ["name,patient ID, grade (GlaS)"]
    for number in range(16):
        patient = number // 2 + 1
        pixels = rng.integers(20 * patient, 20 * patient + 80, (ROWS, COLS, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"train_{number}.png")
        lines.append(f"train_{number},{patient}, {('benign', 'malignant')[patient % 2]}")
    (folder / "data" / "glas" / "Grade.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def images(shared: Path) -> GlasImages:
    return glas_images(shared / "data" / "glas")


def test_tiles_are_the_squares_of_the_images(images: GlasImages) -> None:
    assert images.tiles.shape == (16 * 2, TILE_PX, TILE_PX, 3)
    assert images.image.tolist() == np.repeat(np.arange(16), 2).tolist()
    assert images.groups.tolist() == np.repeat(np.arange(1, 9), 2).tolist()
    assert images.labels.tolist() == (np.repeat(np.arange(1, 9), 2) % 2).tolist()
    with Image.open(images.paths[5]) as fifth:
        pixels = np.asarray(fifth)
    np.testing.assert_array_equal(images.tiles[11], pixels[:TILE_PX, TILE_PX : 2 * TILE_PX])


@pytest.mark.parametrize("title", TRAININGS)
def test_learning_rates_are_the_published_ones_at_any_batch(title: str) -> None:
    training = TRAININGS[title]
    settings, preset = training.settings(3), METHOD_PRESETS[training.method]
    assert settings.lr * settings.batch_size / LR_BATCH == pytest.approx(
        {"vae": 1e-3, "contrastive": 1e-2, "bigan": 2e-4}[training.method]
    )
    assert (settings.seed, settings.views) == (3, preset.views)


@pytest.mark.parametrize("title", TINY)
def test_no_patient_is_learned_from_and_named_or_held_out(images: GlasImages, title: str) -> None:
    training = TINY[title]
    for rows, test in folds_of(images, 1):
        source = source_of(images, rows, method=training.method)
        assert sorted(source.names) == sorted(images.paths[k].name for k in rows)
        assert len(set(source.patient_ids)) == 6
        assert not set(source.patient_ids) & set(map(str, images.groups[test]))
        learned, held = divided(source, training.settings(0))
        if held is not None:
            names = {name: str(images.groups[k]) for k, name in enumerate(_names(images))}
            sides = [{names[name] for name in part.names} for part in (learned, held)]
            assert sides[0]
            assert sides[1]
            assert not sides[0] & sides[1]
    assert (held is None) == (title == "BiGAN")


def _names(images: GlasImages) -> list[str]:
    return [path.name for path in images.paths]


def some_vectors(n: int, *, seed: int) -> list[Vectors]:
    rng = np.random.default_rng(seed)
    each = [rng.standard_normal((n, 5), dtype=np.float32) for _ in range(FOLDS)]
    return [dict.fromkeys(POOLINGS, one) for one in each]


def test_scores_are_those_of_a_probe_on_the_vectors_of_each_fold(images: GlasImages) -> None:
    vectors = some_vectors(16, seed=0)
    found = scores_of(images, vectors, pooling="mean", probe="C = 1", seed=2)
    expected = np.zeros(16)
    for number, (rows, test) in enumerate(folds_of(images, 2)):
        own = vectors[number]["mean"].astype(np.float64)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-10))
        probe.fit(own[rows], images.labels[rows])
        expected[test] = probe.decision_function(own[test])
        assert set(found.fold[test]) == {number}
    np.testing.assert_allclose(found.logit, expected, atol=1e-5)


def test_a_training_is_kept_and_not_repeated(
    shared: Path, images: GlasImages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan(shared=shared, out=tmp_path, seeds=1, trainings={"BiGAN": TINY["BiGAN"]})
    train(plan)
    assert capsys.readouterr().out.startswith("4 of 4 trainings to do\nBiGAN, seed 0, fold 0: ")
    train(plan)
    assert capsys.readouterr().out == "0 of 4 trainings to do\n"
    longer = replace(plan, trainings={"BiGAN": replace(TINY["BiGAN"], steps=3)})
    kept = sorted((tmp_path / "vectors").iterdir())
    assert len(kept) == 4
    with np.load(kept[0]) as one:
        assert one["mean"].shape == (16, 6)
        assert one["mean+std"].shape == (16, 12)
        np.testing.assert_array_equal(one["mean+std"][:, :6], one["mean"])
    begun = random_vectors(plan, images, 0)[untrained(TINY["BiGAN"])]
    assert np.abs(begun["mean"] - one_of(kept[0])).max() > 1e-4
    assert len(seconds_of(plan)["BiGAN"]) == 4
    with pytest.raises(FileNotFoundError):
        seconds_of(longer)


def one_of(path: Path) -> np.ndarray:
    with np.load(path) as kept:
        found: np.ndarray = kept["mean"]
    return found


def test_vectors_are_means_of_an_images_own_tiles(images: GlasImages) -> None:
    begun = TINY["VAE"].begun(0)
    encoder = on_one_thread(begun.network, begun)
    found = image_vectors(encoder, images)["mean"]
    own = np.concatenate([encoder.encode(images.tiles[6:8])])
    np.testing.assert_allclose(found[3], own.mean(axis=0), atol=1e-6)


@pytest.mark.slow  # half a minute: twice every method
@pytest.mark.parametrize("title", TINY)
def test_the_same_seed_trains_the_same_encoder(
    images: GlasImages, title: str, tmp_path: Path
) -> None:
    training = TINY[title]
    rows = folds_of(images, 0)[0][0]
    source = source_of(images, rows, method=training.method)
    found = [
        trained(source, training, seed=seed, pictures=tmp_path)[0].digest for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]


def ranked(title: str, *, beside: str = "", noise: float, seed: int = 0) -> Ranked:
    rng, labels = np.random.default_rng(seed), np.tile([0, 1], 24)
    scores = [
        Scores(
            logit=labels + noise * rng.standard_normal(48), labels=labels,
            fold=np.arange(48) // 12, groups=np.arange(48) // 3,
        )
        for _ in range(2)
    ]  # fmt: skip
    ways = {(probe, pooling): scores for probe in PROBES for pooling in POOLINGS}
    return Ranked(title=title, beside=beside, scores=ways)


def test_the_table_is_ordered_and_differences_are_to_the_network_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [
        ranked("nic:vae, random weights", noise=3.0),
        ranked("VAE", beside="nic:vae, random weights", noise=0.2, seed=1),
        ranked("mean colour", noise=9.0, seed=2),
    ]
    rows_found = rows_of(found, draws=50)
    show(rows_found, seconds={"VAE": [2.0, 4.0]}, out=tmp_path)
    rows = (tmp_path / "nic_glas.md").read_text().splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert [row.split(" | ")[0].strip("| ") for row in rows[2:]] == [
        "VAE", "nic:vae, random weights", "mean colour",
    ]  # fmt: skip
    assert rows == as_markdown(rows_found).splitlines()
    gain = rows_found[0].gain
    assert gain is not None
    assert gain.value == pytest.approx(found[1].pooled(MAIN) - found[0].pooled(MAIN))
    assert str(gain) in rows[2]
    assert gain.low > 0
    assert [row.gain for row in rows_found[1:]] == [None, None]
    assert {"nic_glas.png", "nic_glas.svg"} <= {path.name for path in tmp_path.iterdir()}
    printed = capsys.readouterr().out
    assert f"minus nic:vae, random weights: {gain}" in printed
    assert printed.splitlines()[-1].split() == ["VAE:", "one", "training", "3", "CPU", "s"]


@pytest.mark.slow  # encodes all of GlaS by five networks
@needs_shared
def test_glas_by_encoders_that_are_not_trained_here(tmp_path: Path) -> None:
    plan = Plan(shared=SHARED, out=tmp_path, seeds=2, trainings={})
    images = plan.images
    assert len(images.paths) == 165
    assert len(set(images.groups.tolist())) == 16
    found = {each.title: each for each in ranking(plan, images)}
    lite, multitask, colour = (
        found[title].pooled(MAIN)
        for title in ("EfficientNet-Lite0, ImageNet", "multitask-4, released", "mean colour")
    )
    assert lite > 0.9
    assert multitask > 0.85
    assert colour < multitask < lite
