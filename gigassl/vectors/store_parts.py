"""Parts of a tile store: some of its slides as a store, and one of its slides as bags."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64

from gigassl.bags.bag import Bag
from gigassl.bags.info import BagInfo
from gigassl.vectors.tile_store import TileStore


def subset(store: TileStore, slides: Int64[np.ndarray, " slide"]) -> TileStore:
    """A store of some slides, in that order; the tiles are shared, nothing is copied or read."""
    rows = torch.from_numpy(slides).to(store.first.device)
    return replace(
        store,
        um_per_unit=store.um_per_unit[rows],
        first=store.first[rows],
        count=store.count[rows],
        shapes=None if store.shapes is None else store.shapes[rows],
        slide_ids=tuple(store.slide_ids[i] for i in slides),
        patient_ids=tuple(store.patient_ids[i] for i in slides),
    )


def bags_of_slide(store: TileStore, slide: int) -> Sequence[Bag]:
    """The tiles of one slide: one bag of plain bags, one an augmentation of a bank."""
    info = BagInfo(
        slide_id=store.slide_ids[slide], encoder="", mpp_l0=float(store.um_per_unit[slide])
    )
    spans = zip(store.first[slide].tolist(), store.count[slide].tolist(), strict=True)
    return [
        Bag(
            features=store.features[first : first + count].cpu().numpy(),
            coords=store.coords[first : first + count].long().cpu().numpy(),
            info=info,
        )
        for first, count in spans
    ]
