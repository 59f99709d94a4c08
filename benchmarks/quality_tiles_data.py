"""Labelled tiles to judge tile encoders on: painted ones, and GlaS; and tiles held in memory.

Painted tiles show one of five tissue types; fat, which any encoder tells, is left out. Patients
differ in stain, far more than slides of one laboratory do, so that colour alone says little about
the type and an encoder must see shapes.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image

from gigassl.digests import digest_of_tensors
from gigassl.slides.compose import paint_slide
from gigassl.slides.paint import TISSUE_TYPES
from gigassl.slides.synthetic_settings import SyntheticSettings
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch

TILE_PX, GLAS_PX = 64, 96
TYPES = TISSUE_TYPES[:-1]
MPP = 1.0
_SQUARES = 14  # a side of a painted slide
_STAIN_VARIATION, _STAIN_STRENGTH = 3.0, 0.5
_GLAS_SHRINK = 2  # 0.62 to 1.24 µm/px


@dataclass(frozen=True, kw_only=True)
class PaintedTiles:
    """Tiles of painted slides, what they show, and whose they are.

    Attributes:
        tiles: all of one side.
        labels: number of the class of each.
        groups: number of the patient of each.
        classes: names of the classes.
    """

    tiles: UInt8[np.ndarray, "tile row col 3"]
    labels: Int64[np.ndarray, " tile"]
    groups: Int64[np.ndarray, " tile"]
    classes: Sequence[str]


def painted_tiles(patients: Sequence[int], *, each: int) -> PaintedTiles:
    """Up to ``each`` tiles of every type from the painted slide of every patient.

    Args:
        patients: seeds of the slides; one slide a patient, about a quarter of a second each.
        each: tiles of a type; the slide has some twenty squares of it.
    """
    parts = [_one_patient(seed, each=each) for seed in patients]
    tiles, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    groups = np.repeat(np.array(patients, np.int64), [len(part[1]) for part in parts])
    return PaintedTiles(tiles=tiles, labels=labels, groups=groups, classes=TYPES)


def _one_patient(
    seed: int, *, each: int
) -> tuple[UInt8[np.ndarray, "tile row col 3"], Int64[np.ndarray, " tile"]]:
    rng = np.random.default_rng([seed, 1])
    side = _SQUARES * round(112.0 / MPP)
    settings = SyntheticSettings(
        width_px=side, height_px=side, mpp=MPP, seed=seed, composition=(1.0,) * len(TYPES) + (0.0,),
        tissue_fraction=0.7, stain_variation=_STAIN_VARIATION,
        stain_strength=float(np.exp(rng.uniform(-_STAIN_STRENGTH, _STAIN_STRENGTH))),
    )  # fmt: skip
    slide, cell = paint_slide(settings), settings.cell_px
    tiles, labels = [], []
    for label in range(len(TYPES)):
        for row, col in rng.permutation(np.argwhere(slide.types == label))[:each]:
            # anywhere in the square that leaves out its rim, which shows the common stroma
            top, left = rng.integers(cell // 10, cell - cell // 10 - TILE_PX, 2)
            y, x = row * cell + top, col * cell + left
            tiles.append(slide.image[y : y + TILE_PX, x : x + TILE_PX])
            labels.append(label)
    return np.stack(tiles), np.array(labels, np.int64)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Whole images, larger than a tile.

    Attributes:
        pictures: RGB, of various sizes.
        labels: 1 is malignant.
        groups: number of the patient of each.
    """

    pictures: Sequence[UInt8[np.ndarray, "row col 3"]]
    labels: Int64[np.ndarray, " image"]
    groups: Int64[np.ndarray, " image"]


def glas_pictures(shared: Path) -> Pictures:
    """165 colon images of 16 patients, at half their size."""
    folder = shared / "data" / "glas"
    table = list(csv.DictReader((folder / "Grade.csv").open(), skipinitialspace=True))
    pictures = []
    for row in table:
        with Image.open(next((folder / "images").glob(f"{row['name']}.*"))) as image:
            pictures.append(np.asarray(image.convert("RGB").reduce(_GLAS_SHRINK)))
    return Pictures(
        pictures=pictures,
        labels=np.array([row["grade (GlaS)"].strip() == "malignant" for row in table], np.int64),
        groups=np.array([int(row["patient ID"]) for row in table]),
    )


def random_tiles(
    pictures: Sequence[UInt8[np.ndarray, "row col 3"]], *, each: int, seed: int
) -> UInt8[np.ndarray, "tile side side 3"]:
    """``each`` tiles from anywhere in every image."""
    rng, tiles = np.random.default_rng(seed), []
    for picture in pictures:
        tops, lefts = (rng.integers(side - GLAS_PX + 1, size=each) for side in picture.shape[:2])
        for top, left in zip(tops, lefts, strict=True):
            tiles.append(picture[top : top + GLAS_PX, left : left + GLAS_PX])
    return np.stack(tiles)


def grid_tiles(picture: UInt8[np.ndarray, "row col 3"]) -> UInt8[np.ndarray, "tile side side 3"]:
    """The whole tiles of an image, side by side."""
    rows, cols = (side // GLAS_PX for side in picture.shape[:2])
    whole = picture[: rows * GLAS_PX, : cols * GLAS_PX]
    squares = whole.reshape(rows, GLAS_PX, cols, GLAS_PX, 3).swapaxes(1, 2)
    return squares.reshape(-1, GLAS_PX, GLAS_PX, 3)


class MemoryTiles:
    """A source of tiles that are all in memory, each drawn as often as any other."""

    def __init__(
        self, tiles: UInt8[np.ndarray, "tile row col 3"], groups: Int64[np.ndarray, " tile"], *,
        groups_a_batch: int | None = None,
    ) -> None:  # fmt: skip
        """Takes tiles of patients, or of images.

        Args:
            groups: number of the patient, or image, of each tile.
            groups_a_batch: as many are drawn for each batch, and as many tiles of each; None draws
                from all tiles alike.
        """
        found, self._file = np.unique(groups, return_inverse=True)
        self._tiles, self._groups_a_batch = tiles, groups_a_batch
        self.names: Sequence[str] = tuple(f"group-{group:03d}" for group in found)
        self.patient_ids: Sequence[str] = self.names
        self.n_tiles, self.tile_px = len(tiles), tiles.shape[1]
        held = {"tiles": torch.from_numpy(tiles), "groups": torch.from_numpy(groups)}
        self.digest = digest_of_tensors(held)

    def batches(self, plan: BatchPlan) -> Iterator[TileBatch]:
        """Batches of different tiles; batch ``k`` of a seed knows nothing of the others."""
        for number in range(plan.first, plan.last):
            rng = np.random.default_rng([plan.seed, number])
            own = self._chosen(plan.size, rng)[plan.rank :: plan.world]
            file = torch.from_numpy(self._file[own])
            yield TileBatch(torch.from_numpy(self._tiles[own]), file=file)

    def _chosen(self, size: int, rng: np.random.Generator) -> Int64[np.ndarray, " chosen"]:
        if self._groups_a_batch is None:
            return rng.choice(self.n_tiles, size, replace=size > self.n_tiles)
        groups = rng.choice(len(self.names), self._groups_a_batch, replace=False)
        each = size // self._groups_a_batch
        return np.concatenate(
            [rng.choice(np.flatnonzero(self._file == g), each, replace=False) for g in groups]
        )
