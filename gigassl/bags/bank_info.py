"""Facts of a bank: what all its slides share, what is known of each, and the names of its files."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from gigassl.tiles.augmentation import AugmentationSettings, augmentation_from_record

FORMAT, VERSION = "gigassl-bank", 1
FEATURES, COORDS, SLIDES, CARD = "features.npy", "coords.npy", "slides.parquet", "bank.json"
REDUCTION, JOURNAL, FAILURES = "reduction.safetensors", "journal.jsonl", "failures.csv"
FILES = frozenset({FEATURES, COORDS, SLIDES, CARD, REDUCTION, JOURNAL, FAILURES})

Draw = Literal["scatter", "window"]


@dataclass(frozen=True, kw_only=True)
class BankInfo:
    """What all slides of a bank share.

    Attributes:
        encoder, encoder_digest: the tile encoder and the digest of its weights.
        encoder_dim: width of its features.
        dim: width of the stored features; narrower than ``encoder_dim`` after a reduction.
        settings_digest: digest of everything that shaped the bank.
        mpp: resolution at which tiles were asked for, µm/px.
        tile_px: side of a tile in px at that resolution.
        tile_um: side of a tile in µm.
        augmentations: batches of tiles per slide, each with one draw of augmentation parameters.
        tiles: tiles per batch.
        draw: tiles from anywhere in the tissue ("scatter"), or those around one tile ("window").
        seed: what all draws come from, with the slide_id.
        augmentation: what was drawn from.
        reduction_digest: digest of the reduction; "" where there is none.
        provenance: JSON-ready record of settings and versions.
    """

    encoder: str
    encoder_digest: str
    encoder_dim: int
    dim: int
    settings_digest: str
    mpp: float
    tile_px: int
    tile_um: float
    augmentations: int
    tiles: int
    draw: Draw
    seed: int
    augmentation: AugmentationSettings
    reduction_digest: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def feature_shape(self, n_rows: int) -> tuple[int, int, int, int]:
        """Shape of the features of ``n_rows`` slides."""
        return (n_rows, self.augmentations, self.tiles, self.dim)

    def coord_shape(self, n_rows: int) -> tuple[int, int, int, int]:
        """Shape of the coordinates of ``n_rows`` slides."""
        return (n_rows, self.augmentations, self.tiles, 2)

    def n_bytes(self, n_rows: int) -> int:
        """Size on disk of the arrays of ``n_rows`` slides.

        A slide needs ``augmentations * tiles * (2 * dim + 8)`` bytes.
        """
        return n_rows * self.augmentations * self.tiles * (2 * self.dim + 8)


@dataclass(frozen=True, kw_only=True)
class BankSlide:
    """One finished slide of a bank.

    Attributes:
        row: its row in the arrays.
        patient_rule: where patient_id comes from: "column", "tcga-barcode" or "slide_id".
        file: name of the slide's file.
        n_tissue_tiles: tiles of its tissue grid, from which its batches were drawn.
        um_per_px_l0: level-0 resolution, µm/px.
        mpp_source: where that comes from.
        effective_mpp: resolution at which tiles were in fact read, µm/px.
        width_l0, height_l0: size of the slide, level-0 px.
        side_l0: side of a tile, level-0 px, not rounded.
        slide_digest, inputs_digest, encoder_digest, settings_digest: what it was made from.
        labels: the other columns of the cohort's table, as text.
    """

    slide_id: str
    row: int
    patient_id: str
    patient_rule: str
    file: str
    n_tissue_tiles: int
    um_per_px_l0: float
    mpp_source: str
    effective_mpp: float
    width_l0: int
    height_l0: int
    side_l0: float
    slide_digest: str
    inputs_digest: str
    encoder_digest: str
    settings_digest: str
    labels: Mapping[str, str] = field(default_factory=dict)


def info_from_record(record: Mapping[str, Any]) -> BankInfo:
    """The facts back from what ``plain`` made of them.

    Raises:
        KeyError, TypeError: a fact is missing.
    """
    known = {f.name: record[f.name] for f in fields(BankInfo) if f.name in record}
    return BankInfo(**known | {"augmentation": augmentation_from_record(record["augmentation"])})
