"""Real tiles as features: GlaS images cut into tiles, IDC patches; encoded once, kept in a cache.

Tiles smaller than the encoder's input are enlarged to it, as ``embed`` does. Partial tiles at the
right and lower edge are dropped.
"""

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image

from gigassl.files import written_whole
from gigassl.tiles.encoders import LoadingOptions, load_encoder
from gigassl.tiles.engine import TileEncoder


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Tiles of many bags behind one another, with what is known of each bag.

    Attributes:
        features: one row a tile.
        coords: (x, y) of each tile's top-left corner, px.
        bag: which bag each tile belongs to, ascending.
        tile_label: a label of each tile (zeros where there is none).
        names, patients, labels: one a bag.
        tile_px: side of a tile.
    """

    features: Float32[np.ndarray, "tile dim"]
    coords: Int64[np.ndarray, "tile 2"]
    bag: Int64[np.ndarray, " tile"]
    tile_label: Int64[np.ndarray, " tile"]
    names: Sequence[str]
    patients: Sequence[str]
    labels: Int64[np.ndarray, " bag"]
    tile_px: int

    def rows(self, bag: int) -> slice:
        """The rows of one bag."""
        first, last = np.searchsorted(self.bag, [bag, bag + 1])
        return slice(int(first), int(last))


def glas(shared: Path, cache: Path, *, tile_px: int) -> FeatureSet:
    """165 colon images as bags of tiles; label 1 is malignant."""
    kept = cache / f"glas_{tile_px}.npz"
    if not kept.exists():
        folder = shared / "data" / "glas"
        table = list(csv.DictReader((folder / "Grade.csv").open(), skipinitialspace=True))
        _write(kept, _glas_bags(folder, table, tile_px=tile_px), tile_px=tile_px)
    return _read(kept)


def idc(shared: Path, cache: Path) -> FeatureSet:
    """Breast patches of 279 patients, one bag each; the label of a tile: 1 is invasive cancer."""
    kept = cache / "idc.npz"
    if not kept.exists():
        folder = shared / "data" / "idc_patches"
        _write(kept, _idc_bags(folder), tile_px=50)
    return _read(kept)


@dataclass(frozen=True, kw_only=True)
class _RawBag:
    name: str
    patient: str
    label: int
    tiles: UInt8[np.ndarray, "tile row col 3"]
    coords: Int64[np.ndarray, "tile 2"]
    tile_label: Int64[np.ndarray, " tile"]


def _glas_bags(folder: Path, table: list[dict[str, str]], *, tile_px: int) -> Iterator[_RawBag]:
    for row in table:
        file = next((folder / "images").glob(f"{row['name']}.*"))
        image = np.asarray(Image.open(file).convert("RGB"))
        rows, columns = (side // tile_px for side in image.shape[:2])
        whole = image[: rows * tile_px, : columns * tile_px]
        tiles = whole.reshape(rows, tile_px, columns, tile_px, 3).swapaxes(1, 2)
        y, x = np.mgrid[:rows, :columns].reshape(2, -1) * tile_px
        yield _RawBag(
            name=row["name"], patient=row["patient ID"].strip(),
            label=int(row["grade (GlaS)"].strip() == "malignant"),
            tiles=tiles.reshape(-1, tile_px, tile_px, 3), coords=np.stack([x, y], axis=1),
            tile_label=np.zeros(rows * columns, np.int64),
        )  # fmt: skip


def _idc_bags(folder: Path) -> Iterator[_RawBag]:
    table = list(csv.DictReader((folder / "tiles.csv").open()))
    table = [row for row in table if row["width"] == row["height"] == "50"]
    with zipfile.ZipFile(folder / "patches.zip") as archive:
        for patient in sorted({row["patient"] for row in table}):
            mine = [row for row in table if row["patient"] == patient]
            images = [Image.open(io.BytesIO(archive.read(row["file"]))) for row in mine]
            labels = np.array([int(row["idc"]) for row in mine])
            yield _RawBag(
                name=patient, patient=patient, label=int(labels.any()),
                tiles=np.stack([np.asarray(image.convert("RGB")) for image in images]),
                coords=np.array([[int(row["x"]), int(row["y"])] for row in mine]),
                tile_label=labels,
            )  # fmt: skip


def bundled_encoder() -> TileEncoder:
    """ImageNet EfficientNet-Lite0 on one thread; through OpenVINO, which is three times faster."""
    return load_encoder(
        "efficientnet-lite0", backend="openvino", batch_size=64, options=LoadingOptions(threads=1)
    )


def encoded(
    encoder: TileEncoder, tiles: UInt8[np.ndarray, "tile row col 3"]
) -> Float32[np.ndarray, "tile dim"]:
    """Features of any number of tiles."""
    step = encoder.batch_size
    parts = [encoder.encode(tiles[start : start + step]) for start in range(0, len(tiles), step)]
    return np.concatenate(parts)


def _write(path: Path, bags: Iterator[_RawBag], *, tile_px: int) -> None:
    encoder = bundled_encoder()
    held, features = [], []
    for bag in bags:
        features.append(encoded(encoder, bag.tiles).astype(np.float16))
        held.append(bag)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part, part.open("wb") as handle:
        np.savez(
            handle,
            features=np.concatenate(features),
            coords=np.concatenate([bag.coords for bag in held]),
            bag=np.repeat(np.arange(len(held)), [len(bag.coords) for bag in held]),
            tile_label=np.concatenate([bag.tile_label for bag in held]),
            names=np.array([bag.name for bag in held]),
            patients=np.array([bag.patient for bag in held]),
            labels=np.array([bag.label for bag in held]),
            tile_px=tile_px,
        )


def _read(path: Path) -> FeatureSet:
    with np.load(path, allow_pickle=False) as kept:
        return FeatureSet(
            features=kept["features"].astype(np.float32),
            **{name: kept[name].astype(np.int64) for name in ("coords", "bag", "tile_label")},
            names=kept["names"].tolist(),
            patients=kept["patients"].tolist(),
            labels=kept["labels"].astype(np.int64),
            tile_px=int(kept["tile_px"]),
        )
