"""Our files in other tools: torchmil, TRIDENT's layout, QuPath's GeoJSON, scikit-learn on bags."""

import json
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline

import gigassl
from gigassl.bags.bag import Bag, open_bag, save_bag
from gigassl.bags.info import BagInfo
from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.estimators import SlideProbe
from gigassl.pipeline.bag_encoder import BagEncoder
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.row import SlideRow
from gigassl.vectors.table import SlideTable, open_table, save_table, table_from_rows
from tests.end_to_end.conftest import Run
from tests.shared_data import REPO_ROOT

DOCS = (REPO_ROOT / "docs" / "interoperability.md").read_text(encoding="utf-8")
ENCODER = "efficientnet-lite0"


@pytest.fixture(scope="module")
def encoded(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bags/, vectors.parquet, seen/ and tiles.geojson of three slides."""
    from typer.testing import CliRunner

    from gigassl.cli.main import app

    folder = tmp_path_factory.mktemp("encoded")
    bags = folder / "bags"
    commands = (
        f"embed {slides} -o {folder}/vectors.parquet --keep-bags {bags} --overviews {folder}/seen",
        f"inspect {bags}/alpha.h5 --geojson {folder}/tiles.geojson",
    )
    for command in commands:
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 0, done.stderr
    return folder


def trident_reader(path: Path) -> dict[str, Any]:
    """Features of a slide, as TRIDENT's documented layout says where they are."""
    with h5py.File(path, "r") as file:
        features, coords = file["features"][()], file["coords"][()]
        attrs = dict(file["coords"].attrs)
        of_features = dict(file["features"].attrs)
    # files of older versions keep a batch axis of one
    return {
        "features": features[0] if features.ndim == 3 else features, "coords": coords,
        "encoder": of_features["encoder"], "name": of_features["name"], **attrs,
    }  # fmt: skip


def test_a_reader_of_tridents_layout_understands_our_bags(encoded: Path, slides: Path) -> None:
    for path in sorted((encoded / "bags").glob("*.h5")):
        found, ours = trident_reader(path), open_bag(path)
        np.testing.assert_array_equal(found["features"], ours.features)
        np.testing.assert_array_equal(found["coords"], ours.coords)
        assert found["coords"].dtype.kind == "i"
        assert (found["encoder"], found["name"]) == (ENCODER, path.stem)
        # a slide of 0.5 µm/px is "20×" there, and tiles of 224 px at that are 224 level-0 px
        assert (found["level0_magnification"], found["target_magnification"]) == (20, 20)
        assert (found["patch_size"], found["patch_size_level0"], found["overlap"]) == (224, 224, 0)
        assert (found["level0_width"], found["level0_height"]) == (1344, 1120)
        right_bottom = found["coords"].max(axis=0) + found["patch_size_level0"]
        assert (right_bottom <= [found["level0_width"], found["level0_height"]]).all()
        assert found["savetodir"] == ""  # no path of the machine that wrote it


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch, in torchmil
def test_torchmil_reads_our_folder_of_bags_and_trains_on_it(
    encoded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchmil.models import ABMIL

    (block,) = re.findall(r"```python\n(.*?)```", DOCS, flags=re.DOTALL)[:1]
    (encoded / "clinical.csv").write_text("slide_id,label\nalpha,0\nbeta,1\ngamma,1\n")
    monkeypatch.chdir(encoded)
    (encoded / "block.py").write_text(block)
    dataset = runpy.run_path("block.py")["dataset"]
    assert dataset.get_bag_names() == ["alpha", "beta", "gamma"]
    for number, name in enumerate(dataset.get_bag_names()):
        ours, theirs = open_bag(Path("bags") / f"{name}.h5"), dataset[number]
        assert theirs["X"].dtype == torch.float32
        np.testing.assert_array_equal(theirs["X"].numpy(), ours.features.astype(np.float32))
        cells = np.rint(ours.coords / 224).astype(int)
        np.testing.assert_array_equal(theirs["coords"].numpy(), cells)
        assert int(theirs["Y"]) == (name != "alpha")
        # neighbours side by side or corner to corner, and nobody else
        apart = np.abs(cells[:, None] - cells[None]).max(axis=2)
        np.testing.assert_array_equal(theirs["adj"].to_dense().numpy() > 0, apart == 1)
    model = ABMIL(in_shape=(ours.features.shape[1],))
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(0.01)
    loss = model.compute_loss(dataset[0]["Y"].float()[None], dataset[0]["X"][None])[1]
    sum(loss.values()).backward()
    slopes = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert any(bool((slope != 0).any()) for slope in slopes)


def refuse_unless_qupath_opens(document: Any) -> None:
    """What QuPath's documentation asks of GeoJSON objects (docs: Exporting annotations)."""
    assert document["type"] == "FeatureCollection"
    for feature in document["features"]:
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] in {"Polygon", "MultiPolygon"}
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            assert len(ring) >= 4
        properties = feature["properties"]
        assert properties["objectType"] in {"annotation", "detection", "tile", "cell"}
        for colour in [
            properties.get("color"),
            (properties.get("classification") or {}).get("color"),
        ]:
            assert colour is None or (len(colour) == 3 and all(0 <= c <= 255 for c in colour))
        if "classification" in properties:
            assert isinstance(properties["classification"]["name"], str)
        for name, value in properties.get("measurements", {}).items():
            assert isinstance(name, str)
            assert isinstance(value, int | float)


def test_geojson_is_as_qupath_documents_it(encoded: Path) -> None:
    tissue = json.loads((encoded / "seen" / "tissue" / "alpha.geojson").read_text())
    tiles = json.loads((encoded / "tiles.geojson").read_text())
    for document in (tissue, tiles):
        refuse_unless_qupath_opens(document)
    assert {f["properties"]["classification"]["name"] for f in tissue["features"]} == {"Tissue"}
    bag = open_bag(encoded / "bags" / "alpha.h5")
    corners = [f["geometry"]["coordinates"][0][0] for f in tiles["features"]]
    assert corners == bag.coords.tolist()
    # kept tiles lie on the tissue: most of their centres are inside its outline
    from shapely.geometry import Point, shape

    outline = [shape(feature["geometry"]) for feature in tissue["features"]]
    centres = [Point(x + 112, y + 112) for x, y in corners]
    assert np.mean([any(part.contains(c) for part in outline) for c in centres]) > 0.8


def test_bags_to_vectors_in_a_pipeline_as_embed_makes_them(encoded: Path) -> None:
    paths = sorted((encoded / "bags").glob("*.h5"))
    table = open_table(encoded / "vectors.parquet")
    np.testing.assert_array_equal(BagEncoder().fit_transform(paths), table.embeddings)
    np.testing.assert_array_equal(
        BagEncoder().transform([open_bag(p) for p in paths]), table.embeddings
    )
    np.testing.assert_array_equal(
        BagEncoder("mean").transform([open_bag(p).features for p in paths]), table.embeddings
    )
    piped = make_pipeline(BagEncoder("mean+std"), SlideProbe(strength=1.0))
    said = piped.fit(paths, ["a", "b", "b"]).predict_proba([str(p) for p in paths])
    assert said.shape == (3, 2)
    assert piped.predict(paths).tolist() == ["a", "b", "b"]
    assert piped.set_params(bagencoder__slide_encoder="max").fit(paths, ["a", "b", "b"])


def some_bag(name: str, dim: int = 3) -> Bag:
    coords = np.array([[0, 0], [224, 0]], dtype=np.int64)
    features = np.arange(2 * dim, dtype=np.float16).reshape(2, dim) + 1
    info = BagInfo(slide_id=name, encoder="e", mpp_l0=0.5, tile_px=224, side_l0=224.0)
    return Bag(features=features, coords=coords, info=info)


def test_a_slide_encoder_gives_the_vectors_of_embed(run: Run, tmp_path: Path) -> None:
    from gigassl.vectors.slide_encoders import new_network
    from gigassl.vectors.slide_model import SlideEncoderRecord, SlideModel, save_slide_model

    (tmp_path / "bags").mkdir()
    for name in ("a", "b"):
        save_bag(some_bag(name, dim=4), tmp_path / "bags" / f"{name}.h5")
    record = SlideEncoderRecord(architecture="mlp", dim=4, width=512, cell=112.0)
    model = SlideModel(record=record, network=new_network("mlp", dim=4, cell=112.0, seed=0).eval())
    save_slide_model(tmp_path / "m.safetensors", model)
    out = tmp_path / "v.parquet"
    done = run("embed", tmp_path / "bags", "-o", out, "--slide-encoder", tmp_path / "m.safetensors",
               "--views", "3", "--seed", "7")  # fmt: skip
    assert done.code == 0, done.err
    encoder = BagEncoder(str(tmp_path / "m.safetensors"), views=3, seed=7)
    paths = [tmp_path / "bags" / f"{name}.h5" for name in ("a", "b")]
    np.testing.assert_array_equal(encoder.fit_transform(paths), open_table(out).embeddings)
    with pytest.raises(SettingsError, match="needs to know where tiles lie"):
        encoder.transform([np.ones((3, 4))])
    with pytest.raises(SlideError, match=r"b2: .*features 3 wide"):
        encoder.transform([some_bag("b2")])


def test_the_scikit_learn_blocks_of_the_docs_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "bags").mkdir()
    labels = np.arange(20) // 2 % 2  # two slides a patient
    rows = []
    for number, label in enumerate(labels.tolist()):
        bag = some_bag(f"s{number:02}")
        features = rng.normal(size=(6, 3)) + np.array([3.0 * label, 5.0, 0.0])
        bag = replace(bag, features=features.astype(np.float16),
                      coords=np.arange(12, dtype=np.int64).reshape(6, 2) * 224)  # fmt: skip
        save_bag(bag, tmp_path / "bags" / f"s{number:02}.h5")
        rows.append(row_of(number, l2_normalised(features.mean(axis=0))))
    save_table(table_from_rows(rows, provenance={}), tmp_path / "vectors.parquet")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {"labels": labels}
    for block in re.findall(r"```python\n(.*?)```", DOCS, flags=re.DOTALL)[1:]:
        exec(compile(block, "docs/interoperability.md", "exec"), found)
    assert found["scores"].mean() > 0.9
    paths = sorted((tmp_path / "bags").glob("*.h5"))
    assert (found["model"].predict(paths) == labels).mean() > 0.9
    choices = {"bagencoder__slide_encoder": ["max", "mean"], "slideprobe__method": ["prototype"]}
    search = GridSearchCV(found["model"], choices, cv=GroupKFold(4))
    search.fit(paths, labels, groups=found["patients"])
    assert search.best_params_["bagencoder__slide_encoder"] == "mean"
    assert search.cv_results_["mean_test_score"].max() > 0.9


def test_an_estimator_on_the_splits_of_a_probe_predicts_what_the_probe_did(
    run: Run, tmp_path: Path
) -> None:
    table, labels = some_table(dim=5)
    save_table(table, tmp_path / "v.parquet")
    lines = [f"{name},{label}" for name, label in zip(table.slide_ids, labels, strict=True)]
    (tmp_path / "l.csv").write_text("\n".join(["slide_id,kind", *lines]))
    done = run("probe", tmp_path / "v.parquet", "--labels", tmp_path / "l.csv", "--target", "kind",
               "-o", tmp_path / "p.parquet")  # fmt: skip
    assert done.code == 0, done.err
    said = pq.read_table(tmp_path / "p.parquet").to_pandas()
    said = said[said["method"] == "v · logistic"]
    patients, names = np.array(table.patient_ids), np.array(table.slide_ids)
    assert sorted(said["slide_id"]) == table.slide_ids
    for _, rows in said.groupby("fold"):
        tested = np.isin(names, rows["slide_id"])
        probe = gigassl.SlideProbe().fit(
            table.embeddings[~tested], np.array(labels)[~tested], groups=patients[~tested]
        )
        wanted = rows.set_index("slide_id").loc[names[tested], ["p_a", "p_b"]].to_numpy()
        found = probe.predict_proba(table.embeddings[tested])
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def some_table(*, dim: int) -> tuple[SlideTable, list[str]]:
    """Forty slides of twenty patients, and labels that the vectors hint at."""
    rng = np.random.default_rng(1)
    labels = ["ab"[number // 2 % 2] for number in range(40)]
    rows = [
        row_of(number, l2_normalised(rng.normal(size=dim) + (np.arange(dim) == 0) * (label == "b")))
        for number, label in enumerate(labels)
    ]
    return table_from_rows(rows, provenance={}), labels


def row_of(number: int, vector: np.ndarray) -> SlideRow:
    return SlideRow(
        slide_id=f"s{number:02}", patient_id=f"p{number // 2}", patient_rule="column", file="",
        embedding=vector, n_tiles=6, mpp=0.5, mpp_source="file", effective_mpp=0.5, width_l0=9,
        height_l0=9, slide_digest="", settings_digest="b",
    )  # fmt: skip


def test_bags_that_cannot_be_encoded_are_named(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"absent\.h5: "):
        BagEncoder().transform([tmp_path / "absent.h5"])
    with pytest.raises(SettingsError, match="bags 0 and 2 give vectors of 3 and 4 columns"):
        BagEncoder().transform([np.ones((2, 3)), some_bag("x"), np.ones((2, 4))])
    with pytest.raises(SettingsError, match="bag 1 is neither a path, nor a bag, nor an array"):
        BagEncoder().transform([np.ones((2, 3)), np.ones(3)])
    with pytest.raises(SettingsError, match="did you mean 'mean'"):
        BagEncoder("maen").fit([])
    with pytest.raises(SettingsError, match="no bags"):
        BagEncoder().transform([])


def test_scikit_learns_checks_that_apply_to_bags() -> None:
    from sklearn.exceptions import SkipTestWarning
    from sklearn.utils.estimator_checks import check_estimator

    with pytest.warns(SkipTestWarning, match="Can't test estimator BagEncoder"):
        done = check_estimator(BagEncoder(), on_skip=None)
    assert {each["status"] for each in done} <= {"passed"}
