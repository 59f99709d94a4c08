"""Tile stores and bags for tests: small, random, of the shapes that matter."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from gigassl.bags.bag import Bag, BagInfo
from gigassl.vectors.tile_store import TileStore, store_of_bags

TILE_PX = 448
"""Side of the tiles in level-0 px."""


def grid_bag(
    slide_id: str = "alpha", *, cols: int = 6, rows: int = 5, dim: int = 4, seed: int = 0,
    **facts: Any,
) -> Bag:  # fmt: skip
    """A bag of a full grid of tiles, read at 0.5 µm/px of a slide with 0.25 µm/px."""
    rng = np.random.default_rng([seed, *slide_id.encode()])
    y, x = np.mgrid[:rows, :cols].reshape(2, -1)
    coords = np.stack([x, y], axis=1).astype(np.int64) * TILE_PX
    features = rng.normal(size=(len(coords), dim)).astype(np.float16)
    info: dict[str, Any] = {
        "slide_id": slide_id, "encoder": "some", "encoder_digest": "d1", "mpp_l0": 0.25,
        "tile_px": 224, "side_l0": float(TILE_PX), "target_mpp": 0.5, "effective_mpp": 0.5,
    }  # fmt: skip
    return Bag(features=features, coords=coords, info=BagInfo(**info | facts))


def store_of(*bags: Bag) -> TileStore:
    """A store of these bags, each slide a patient of its own."""
    return store_of_bags(bags, patient_ids=[bag.info.slide_id for bag in bags])


@st.composite
def bags_of(draw: st.DrawFn) -> list[Bag]:
    """One to four bags of different size, all tiles of a grid in any order."""
    bags = []
    for number in range(draw(st.integers(1, 4))):
        cols, rows = draw(st.integers(1, 5)), draw(st.integers(1, 5))
        bag = grid_bag(f"s{number}", cols=cols, rows=rows, seed=draw(st.integers(0, 99)))
        order = np.random.default_rng(number).permutation(len(bag))
        bags.append(Bag(features=bag.features[order], coords=bag.coords[order], info=bag.info))
    return bags
