"""Tile indices without slides: lattices with some of their tiles kept."""

from pathlib import Path

import numpy as np

from gigassl.tiles.pretrain.index import TileIndex, joined


def one_slide(
    name: str, *, kept: np.ndarray, side_l0: float = 100.0, step_l0: float | None = None,
    mpp_l0: float = 0.5, spare: tuple[int, int] = (0, 0),
) -> TileIndex:  # fmt: skip
    """A slide whose lattice has a tile where ``kept`` (row, column) is true."""
    step = step_l0 or side_l0
    rows, columns = kept.shape
    y, x = np.nonzero(kept)
    coords = np.rint(np.stack([x, y], axis=1) * step).astype(np.int64)
    size = [int(np.ceil((columns - 1) * step + side_l0)), int(np.ceil((rows - 1) * step + side_l0))]
    return TileIndex(
        slide_ids=(name,), paths=(Path("slides") / f"{name}.svs",), patient_ids=(f"p-{name}",),
        slide_digests=(f"d{name}",), inputs_digests=(f"i{name}",), mpp_l0=np.array([mpp_l0]),
        size_l0=np.array([size], np.int64) + np.array([spare], np.int64),
        side_l0=np.array([float(side_l0)]), step_l0=np.array([float(step)]),
        jpeg_levels=np.array([1]),
        count=np.array([len(coords)]), coords=coords,
        tissue=np.linspace(0.5, 1.0, len(coords), dtype=np.float32), tile_px=100,
        target_mpp=side_l0 * mpp_l0 / 100, settings_digest="settings",
    )  # fmt: skip


def slides_of(*counts: int) -> TileIndex:
    """Slides of one row of so many tiles each."""
    return joined(
        [one_slide(f"s{k}", kept=np.ones((1, count), bool)) for k, count in enumerate(counts)]
    )
