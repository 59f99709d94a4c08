"""Images of GlaS as tiles, and short trainings of NIC's encoders on the images of some patients.

Presets, networks and losses are the published ones and what is drawn is what ``pretrain-tiles``
draws from a folder of images; only the trainings are a few CPU minutes long. The learning rates
that the optimiser sees are the published ones at any batch.
"""

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import nn

from benchmarks.quality_data import encoded
from gigassl.tiles.encoders import LoadingOptions, load_encoder
from gigassl.tiles.engine import EngineSettings, TileEncoder
from gigassl.tiles.pretrain.catalogue import METHOD_PRESETS, METHODS, new_method
from gigassl.tiles.pretrain.image_source import ImageTiles, index_of
from gigassl.tiles.pretrain.options import TileTrainingOptions
from gigassl.tiles.pretrain.settings import Precision, SamplingSettings, TilePretrainSettings
from gigassl.tiles.pretrain.train import new_fabric, pretrain_tile_encoder
from gigassl.tiles.records import HALF
from gigassl.tiles.training_networks import BegunNetwork, TileNetwork, begun_network
from gigassl.tiles.weights import load_checkpoint
from gigassl.vectors.pooling import pool

TILE_PX = 128
"""As in the papers, at GlaS' own 0.62 µm/px; theirs are at 0.5, which would enlarge the images."""
POOLINGS = ("mean", "mean+std")
_ROUNDS = 6

Vectors = Mapping[str, Float32[np.ndarray, "image _"]]
"""Pooling → one vector an image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GlasImages:
    """Images of colon, whole and as tiles side by side; the rim that holds no whole tile is left.

    Attributes:
        paths: of the files.
        labels: 1 is malignant.
        groups: number of the patient of each.
        tiles: of all images, one after another.
        image: number of the image of each tile.
    """

    paths: Sequence[Path]
    labels: Int64[np.ndarray, " image"]
    groups: Int64[np.ndarray, " image"]
    tiles: UInt8[np.ndarray, "tile side side 3"]
    image: Int64[np.ndarray, " tile"]


def glas_images(folder: Path) -> GlasImages:
    """Reads ``Grade.csv`` and the images it names."""
    lines = (folder / "Grade.csv").read_text(encoding="utf-8").splitlines()
    table = list(csv.DictReader(lines, skipinitialspace=True))
    paths = [next((folder / "images").glob(f"{row['name']}.*")) for row in table]
    each = [_tiles_of(path) for path in paths]
    return GlasImages(
        paths=paths,
        labels=np.array([row["grade (GlaS)"].strip() == "malignant" for row in table], np.int64),
        groups=np.array([int(row["patient ID"]) for row in table], np.int64),
        tiles=np.concatenate(each),
        image=np.repeat(np.arange(len(each)), [len(tiles) for tiles in each]),
    )


def _tiles_of(path: Path) -> UInt8[np.ndarray, "tile side side 3"]:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    rows, cols = (side // TILE_PX for side in pixels.shape[:2])
    whole = pixels[: rows * TILE_PX, : cols * TILE_PX]
    squares = whole.reshape(rows, TILE_PX, cols, TILE_PX, 3).swapaxes(1, 2)
    return squares.reshape(-1, TILE_PX, TILE_PX, 3)


@dataclass(frozen=True, kw_only=True)
class NicTraining:
    """What is trained, and for how long.

    Attributes:
        method: whose preset is taken.
        architecture: of the encoder.
        steps: of the optimiser.
        batch_size: tiles of a step, each seen in two views.
        precision: of the network's arithmetic.
    """

    method: str
    architecture: str
    steps: int
    batch_size: int
    precision: Precision = "bf16"

    def begun(self, seed: int) -> BegunNetwork:
        """The network as every training of that seed begins with it."""
        chosen = TileNetwork(architecture=self.architecture)
        return begun_network(chosen, sides_px=[TILE_PX], seed=seed)

    def settings(self, seed: int) -> TilePretrainSettings:
        """The preset of the method, shortened."""
        preset = METHOD_PRESETS[self.method]
        return replace(
            preset, steps=self.steps, batch_size=self.batch_size, precision=self.precision,
            lr=preset.lr * preset.batch_size / self.batch_size, seed=seed,
        )  # fmt: skip


TRAININGS: Mapping[str, NicTraining] = {
    "VAE": NicTraining(method="vae", architecture="nic:vae", steps=120, batch_size=32),
    "contrastive": NicTraining(
        method="contrastive", architecture="nic:vae", steps=200, batch_size=64
    ),
    # many small batches: a game of two wants steps more than it wants images
    "BiGAN": NicTraining(method="bigan", architecture="nic:bigan", steps=300, batch_size=8),
}
"""Name → training of one to two minutes on one thread; published ones are of 50,000 tiles and
200,000 steps. Chosen for its time alone: no score of GlaS was looked at for it."""


def source_of(images: GlasImages, rows: Int64[np.ndarray, " some"], *, method: str) -> ImageTiles:
    """Tiles from anywhere in some images; patients, not images, can be held out of it."""
    paths = [images.paths[k] for k in rows]
    source = ImageTiles(
        index_of([path.name for path in paths], paths=paths), tile_px=TILE_PX,
        settings=SamplingSettings(neighbours=METHODS[method].wants_neighbours),
    )  # fmt: skip
    source.patient_ids = [str(images.groups[k]) for k in rows]
    return source


def trained(
    source: ImageTiles, training: NicTraining, *, seed: int, pictures: Path
) -> tuple[TileEncoder, float]:
    """The encoder that the method keeps, and what its training took, CPU s.

    Where the preset holds patients out, a quarter of those for training, it is the round's that did
    best on them; else the last one.
    """
    start, begun, settings = time.process_time(), training.begun(seed), training.settings(seed)
    method = new_method(settings, begun.network, width=begun.record.dim, steps=training.steps)
    pictures.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        best = Path(folder) / "best.safetensors"
        options = TileTrainingOptions(
            fabric=new_fabric(settings, device="cpu"), best=best, pictures=pictures,
            round_steps=max(1, training.steps // _ROUNDS),
        )  # fmt: skip
        result = pretrain_tile_encoder(
            source, method, settings=settings, mean=HALF[0], std=HALF[1], options=options
        )
        if alarm := result.alarm():
            print(f"{training.method}: {alarm}", flush=True)
        network = method.encoder_to_keep()
        if settings.validation and best.is_file():
            network.load_state_dict(load_checkpoint(best).tensors)
    return on_one_thread(network, begun), time.process_time() - start


def on_one_thread(network: nn.Module, begun: BegunNetwork) -> TileEncoder:
    """A network ready to encode."""
    settings = EngineSettings(device="cpu", precision="fp32", batch_size=64)
    return TileEncoder(network, record=begun.record, settings=settings)


def named_encoder(name: str, *, backend: str = "torch") -> TileEncoder:
    """An encoder by name or file, on one thread."""
    return load_encoder(
        name, backend=backend, device="cpu", precision="fp32", batch_size=64,
        options=LoadingOptions(threads=1),
    )  # fmt: skip


def image_vectors(encoder: TileEncoder, images: GlasImages) -> Vectors:
    """Mean, and mean beside standard deviation, of the features of each image's tiles.

    They are not brought to length 1 as in vector files, which would take brightness from the mean
    colour.
    """
    features = encoded(encoder, images.tiles)
    bags = [features[images.image == k] for k in range(len(images.paths))]
    return {method: np.stack([pool(bag, method=method) for bag in bags]) for method in POOLINGS}
