"""What is fuzzed: for each format valid samples, how they are mutated, and who reads them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import cv2
import h5py
import numpy as np
import torch

from gigassl.bags.bag import Bag, open_bag, save_bag
from gigassl.bags.bank import open_bank
from gigassl.bags.bank_draws import DrawSettings
from gigassl.bags.info import BagInfo
from gigassl.bags.prepare import TileSettings, lay_tiles, look_at
from gigassl.bags.reduction import fit_pca, load_reduction, save_reduction
from gigassl.evaluate.calibration import Calibration
from gigassl.evaluate.fitted_probe import FittedProbe
from gigassl.evaluate.frozen import FrozenProbe, load_frozen, save_frozen
from gigassl.evaluate.labels import read_label_table
from gigassl.evaluate.mil.losses import Scale
from gigassl.evaluate.mil.models import new_model
from gigassl.evaluate.mil.saved import Aim, SavedMil, load_mil_model, save_mil_model
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.evaluate.predictions import Method, open_predictions, save_predictions
from gigassl.evaluate.split_files import read_split_lists
from gigassl.pipeline.bank import BankSettings, encode_bank
from gigassl.pipeline.recipe import RecipeOptions, read_recipe
from gigassl.pipeline.recipe_file import read_file
from gigassl.pipeline.recipe_steps import STEPS
from gigassl.slides.cohort import CohortSlide, read_cohort
from gigassl.slides.grid import GridSettings
from gigassl.slides.masks import read_mask
from gigassl.slides.slide_files import JpegCoding, SlideFileSettings, save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.encoder_files import save_encoder
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.weights import load_checkpoint
from gigassl.vectors.row import SlideRow
from gigassl.vectors.slide_encoders import new_network
from gigassl.vectors.slide_model import (
    SlideEncoderRecord,
    SlideModel,
    load_slide_model,
    save_slide_model,
)
from gigassl.vectors.table import open_table, save_table, table_from_rows
from tests.evaluate.prediction_tables import holdout_of, predictions_of, task_of
from tests.faults.mutate import (
    Mutator,
    mutate_bytes,
    mutate_json,
    mutate_safetensors,
    mutate_text,
    mutate_tiff,
)

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A valid file.

    Attributes:
        name: of the file; its suffix often decides who reads it.
        around: other files that lie beside it and stay as they are.
    """

    name: str
    data: bytes
    mutate: Mutator
    around: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A format: samples, made in a folder, and a reader of one file."""

    samples: Callable[[Path], Sequence[Sample]]
    read: Callable[[Path], object]


def _one(path: Path, mutate: Mutator) -> Sample:
    return Sample(name=path.name, data=path.read_bytes(), mutate=mutate)


def _slides(folder: Path) -> Sequence[Sample]:
    painted = paint_slide(SyntheticSettings(width_px=560, height_px=560, seed=3)).image
    codings: tuple[JpegCoding, ...] = ("420", "rgb")
    found = []
    for coding in codings:
        stored = SlideFileSettings(tile_px=112, coding=coding, downsamples=(1, 4))
        save_image(painted, folder / f"{coding}.svs", mpp=0.5, settings=stored)
        found.append(_one(folder / f"{coding}.svs", mutate_tiff))
    plain = SlideFileSettings(tile_px=112, vendor="generic", downsamples=(1, 4))
    save_image(painted, folder / "plain.tif", mpp=0.5, settings=plain)
    return [*found, _one(folder / "plain.tif", mutate_tiff)]


def _read_slide(path: Path) -> None:
    """As a run does it: header, thumbnail, tissue, grid, and the first tiles."""
    settings = TileSettings(grid=GridSettings(tile_px=112, target_mpp=0.5), default_mpp=0.5)
    source = CohortSlide(slide_id="s", path=path, patient_id="p", patient_rule="slide_id")
    seen = look_at(source, settings)
    try:
        prepared = lay_tiles(seen, settings)
        prepared.tiles.read(np.arange(min(8, len(prepared.grid))))
    finally:
        seen.slide.close()


def _bags(folder: Path) -> Sequence[Sample]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, 4)).astype(np.float16)
    coords = rng.integers(0, 2000, (6, 2))
    info = BagInfo(
        slide_id="s", encoder="e", encoder_digest="0" * 16, settings_digest="1" * 16,
        inputs_digest="2" * 16, provenance={"settings": {"a": 1}}, mpp_l0=0.5,
    )  # fmt: skip
    save_bag(Bag(features=features, coords=coords, info=info), folder / "ours.h5")
    with h5py.File(folder / "trident.h5", "w") as file:
        file.create_dataset("features", data=features).attrs["encoder"] = "uni_v1"
        file.create_dataset("coords", data=coords).attrs.update(
            {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40,
             "target_magnification": 20, "overlap": 0, "level0_width": 9000, "level0_height": 9000}
        )  # fmt: skip
    with h5py.File(folder / "stamp.h5", "w") as file:
        file["feats"], file["coords"] = features, coords.astype(np.float64)
        file.attrs.update(
            {"stamp_version": "2.3.0", "unit": "um", "tile_size_um": 256.0, "tile_size_px": 224,
             "extractor": "ctranspath", "feat_type": "tile"}
        )  # fmt: skip
    return [_one(path, mutate_bytes) for path in sorted(folder.glob("*.h5"))]


def _vectors(folder: Path) -> Sequence[Sample]:
    rows = [
        SlideRow(
            slide_id=f"s{k}", patient_id="p", file="x.svs", n_tiles=5, settings_digest="d",
            embedding=np.full(4, 0.5, np.float32),
        )
        for k in range(5)
    ]  # fmt: skip
    save_table(table_from_rows(rows, provenance={"settings": {}}), folder / "v.parquet")
    return [_one(folder / "v.parquet", mutate_bytes)]


def _predictions(folder: Path) -> Sequence[Sample]:
    task = task_of([0, 1] * 6)
    made = predictions_of(task, holdout_of(task), [(Method(name="m"), 1.0)])
    save_predictions(made, folder / "p.parquet")
    return [_one(folder / "p.parquet", mutate_bytes)]


def _banks(folder: Path) -> Sequence[Sample]:
    painted = paint_slide(SyntheticSettings(width_px=672, height_px=672, seed=3)).image
    (folder / "slides").mkdir()
    for name in ("a", "b"):
        save_image(painted, folder / "slides" / f"{name}.svs", mpp=0.5)
    grid = GridSettings(tile_px=112, target_mpp=0.5)
    draws = DrawSettings(augmentations=2, tiles=2)
    settings = BankSettings(tiles=TileSettings(grid=grid), draws=draws)
    encoder = load_encoder("nic:mean-rgb", device="cpu")
    encode_bank(folder / "slides", folder / "bank", encoder=encoder, settings=settings)
    files = {p.name: p.read_bytes() for p in (folder / "bank").iterdir() if p.name[0] != "."}
    how = {".json": mutate_json, ".jsonl": mutate_text}
    return [
        Sample(name=name, data=data, mutate=how.get(Path(name).suffix, mutate_bytes), around=files)
        for name, data in sorted(files.items())
    ]


def _models(folder: Path) -> Sequence[Sample]:
    name = "random:nic:vae?code=4,convolutions=2,first=2,dense=4,px=32"
    encoder = load_encoder(name, device="cpu")
    save_encoder(folder / "tiles.safetensors", record=encoder.record, network=encoder.network)
    network = new_network("mlp", dim=4, cell=56.0, seed=0)
    record = SlideEncoderRecord(architecture="mlp", dim=4, width=512, cell=56.0)
    save_slide_model(folder / "slides.safetensors", SlideModel(record=record, network=network))
    rows = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    save_reduction(folder / "reduction.safetensors", fit_pca(rows, kept=2), encoder_digest="e")
    _save_probe(folder / "probe.safetensors")
    _save_mil(folder / "mil.safetensors")
    torch.save({"state_dict": {"a": torch.zeros(3)}, "epoch": 3}, folder / "plain.pth")
    return [
        _one(path, mutate_safetensors if path.suffix == ".safetensors" else mutate_bytes)
        for path in sorted(folder.iterdir())
    ]


def _save_probe(path: Path) -> None:
    fitted = FittedProbe(
        method="logistic", unit_norm=True, centre=np.zeros(4), factors=np.ones(4),
        coefficients=np.ones((2, 4)), intercepts=np.zeros(2),
    )  # fmt: skip
    frozen = FrozenProbe(
        probe=fitted, task="t", kind="classification", target="t", classes=("a", "b"),
        calibration=Calibration(slope=1.0, offsets=np.zeros(2)), threshold=0.5, rule="youden",
        vectors={"name": "v", "digest": "d", "dim": 4, "settings": {}},
        slides=frozenset({"s"}), patients=frozenset({"p"}), made={},
    )  # fmt: skip
    save_frozen(frozen, path)


def _save_mil(path: Path) -> None:
    aim = Aim(name="t", kind="classification", classes=("a", "b"))
    settings = MilSettings(model="mean", device="cpu")
    saved = SavedMil(
        method="mean", settings=settings, aim=aim, dim=4,
        model=new_model("mean", aim, dim=4, seed=0, options=settings.options), scale=Scale(),
        standard=None, precision=torch.float32, split={"scheme": "x"}, learned=frozenset({"s"}),
        patients=frozenset({"p"}), tested=frozenset(), tiles={}, made={},
    )  # fmt: skip
    save_mil_model(saved, path)


def _read_model(path: Path) -> None:
    """By the loader of its kind, and a first use of it where that is cheap."""
    if path.name == "tiles.safetensors":
        load_encoder(str(path), device="cpu").encode(np.zeros((1, 32, 32, 3), np.uint8))
    elif path.name == "slides.safetensors":
        load_slide_model(path)
    elif path.name == "reduction.safetensors":
        load_reduction(path, encoder_digest="e").apply(np.zeros((1, 6), np.float32))
    elif path.name == "probe.safetensors":
        load_frozen(path).calibrated(load_frozen(path).probe.predict(np.ones((1, 4))))
    elif path.name == "mil.safetensors":
        load_mil_model(path)
    else:
        load_checkpoint(path)


def _cohorts(folder: Path) -> Sequence[Sample]:
    texts = {
        "cohort.csv": "slide_id,path,patient_id,mpp,grade\na,a.svs,p1,0.5,1\nb,sub/b.svs,p2,,2\n",
        "clam.csv": "case_id,slide_id,label\np1,a.svs,x\np2,b.svs,y\n",
        "tabs.tsv": "PATIENT\tFILENAME\np1\ta.svs\np2\tb.svs\n",
    }
    return [Sample(name=k, data=v.encode(), mutate=mutate_text) for k, v in texts.items()]


def _labels(folder: Path) -> Sequence[Sample]:
    rows = "".join(f"s{k}.svs,p{k},{'ab'[k % 2]},{k}.5,{k % 2}\n" for k in range(8))
    text = f"slide_id,patient_id,grade,time,event\n{rows}"
    tabs = text.replace(",", "\t")
    return [
        Sample(name="labels.csv", data=text.encode(), mutate=mutate_text),
        Sample(name="labels.tsv", data=tabs.encode(), mutate=mutate_text),
    ]


def _read_labels(path: Path) -> None:
    found = read_label_table(path)
    found.column("grade")


def _splits(folder: Path) -> Sequence[Sample]:
    one = "train,val,test\n" + "".join(f"a{k},b{k},c{k}\n" for k in range(4))
    numbered = ",train,val,test\n" + "".join(f"{k},a{k},b{k},c{k}\n" for k in range(4))
    bench = "case_id\tslide_id\tgrade\tfold_0\n" + "".join(
        f"p{k}\ts{k}\t{k % 2}\t{'train' if k < 4 else 'test'}\n" for k in range(6)
    )
    return [
        Sample(name="split_0.csv", data=one.encode(), mutate=mutate_text),
        Sample(name="splits_0.csv", data=numbered.encode(), mutate=mutate_text),
        Sample(name="bench.tsv", data=bench.encode(), mutate=mutate_text),
    ]


def _recipes(folder: Path) -> Sequence[Sample]:
    for kind in STEPS.values():  # or the first input of each child pays for the imports
        import_module(kind.module)
    return [_one(path, mutate_text) for path in sorted((REPO / "recipes").glob("*.toml"))]


def _read_recipe(path: Path) -> None:
    variables = read_file(path).variables
    given = {name: f"/of/{name}" for name, each in variables.items() if each.default is None}
    read_recipe(path, out=path.parent / "out", options=RecipeOptions(given=given))


def _masks(folder: Path) -> Sequence[Sample]:
    ring = [[400, 400], [3000, 400], [3000, 3000], [400, 3000], [400, 400]]
    feature = {
        "type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": "Tissue"}},
    }  # fmt: skip
    text = json.dumps({"type": "FeatureCollection", "features": [feature]}).encode()
    mask = np.zeros((40, 40, 3), np.uint8)
    mask[10:30, 10:30] = 255
    png = cv2.imencode(".png", mask)[1].tobytes()
    return [
        Sample(name="m.geojson", data=text, mutate=mutate_json),
        Sample(name="m.png", data=png, mutate=mutate_bytes),
    ]


TARGETS: Mapping[str, Target] = {
    "slide": Target(samples=_slides, read=_read_slide),
    "bag": Target(samples=_bags, read=lambda path: open_bag(path, mpp_l0=0.5)),
    "vectors": Target(samples=_vectors, read=lambda path: list(open_table(path).rows())),
    "predictions": Target(samples=_predictions, read=open_predictions),
    "bank": Target(samples=_banks, read=lambda path: open_bank(path.parent)),
    "model": Target(samples=_models, read=_read_model),
    "cohort": Target(samples=_cohorts, read=lambda path: read_cohort(path, slide_dir=path.parent)),
    "labels": Target(samples=_labels, read=_read_labels),
    "splits": Target(samples=_splits, read=lambda path: read_split_lists(path.parent)),
    "recipe": Target(samples=_recipes, read=_read_recipe),
    "mask": Target(
        samples=_masks, read=lambda path: read_mask(path, width_l0=4000, height_l0=4000)
    ),
}
"""Format → what is fuzzed."""
