"""Fitting: whether tile features are of the kind that a slide encoder was made for."""

from dataclasses import dataclass

from gigassl.bags.bag import Bag
from gigassl.vectors.slide_model import SlideEncoderRecord, SlideModel
from gigassl.vectors.tile_store import same_size, tile_mpp, tile_side_um


@dataclass(frozen=True, kw_only=True)
class TileFacts:
    """What must fit of a bag's tiles; "" and None where it is not known.

    Attributes:
        encoder, encoder_digest: the tile encoder.
        dim: width of its features.
        mpp: resolution of the tiles, µm/px (see ``tile_mpp``).
        tile_um: side of a tile, µm.
    """

    encoder: str
    encoder_digest: str
    dim: int
    mpp: float | None
    tile_um: float | None


def facts_of_bag(bag: Bag) -> TileFacts:
    """The facts of a bag, ours or another tool's."""
    info = bag.info
    return TileFacts(
        encoder=info.encoder,
        encoder_digest=info.encoder_digest,
        dim=int(bag.features.shape[1]),
        mpp=tile_mpp(bag),
        tile_um=tile_side_um(bag),
    )


def misfit(model: SlideModel, tiles: TileFacts) -> str | None:
    """Why the tiles are not what the slide encoder wants, as a sentence; None where they are.

    Published models do not say all of it; what neither side says cannot be compared. A resolution
    that the model does say must be known.
    """
    record = model.record
    differences = [
        _encoder_differs(record, tiles),
        None if tiles.dim == record.dim else f"features {tiles.dim} wide, not {record.dim}",
        _resolution_differs(record, tiles),
        _side_differs(record, tiles),
    ]
    said = "; ".join(text for text in differences if text)
    if not said:
        return None
    return f"the slide encoder (digest {model.digest}) was made for other tiles: {said}"


def _encoder_differs(record: SlideEncoderRecord, tiles: TileFacts) -> str | None:
    ours, theirs = record.tile_encoder_digest, tiles.encoder_digest
    if not (ours and theirs):  # another tool's bag, or a published model: the name must do
        ours, theirs = record.tile_encoder, tiles.encoder
    if not ours or not theirs or ours == theirs:
        return None
    return (
        f"tile encoder '{tiles.encoder}' (digest {tiles.encoder_digest or 'not known'}), "
        f"not '{record.tile_encoder}' (digest {record.tile_encoder_digest or 'not known'})"
    )


def _resolution_differs(record: SlideEncoderRecord, tiles: TileFacts) -> str | None:
    if record.mpp is None:
        return None
    if tiles.mpp is None:
        return f"µm/px not known, {record.mpp:g} wanted; give --slide-mpp"
    if same_size(record.mpp, tiles.mpp):
        return None
    return f"read at {tiles.mpp:.4g} µm/px, not {record.mpp:g}"


def _side_differs(record: SlideEncoderRecord, tiles: TileFacts) -> str | None:
    if record.tile_um is None or tiles.tile_um is None:
        return None
    if same_size(record.tile_um, tiles.tile_um):
        return None
    return f"{tiles.tile_um:.4g} µm wide, not {record.tile_um:g}"
