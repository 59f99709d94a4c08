"""A look at what a tile encoder would learn from, and the labelled tiles that it is examined on."""

import logging
from pathlib import Path

import torch

from gigassl.errors import SettingsError
from gigassl.pipeline.output import claimed
from gigassl.pipeline.pretrain_tiles_data import TileData, TiledFiles, tile_data
from gigassl.pipeline.pretrain_tiles_files import TileEncoderFiles
from gigassl.pipeline.pretrain_tiles_result import PreviewResult
from gigassl.pipeline.pretrain_tiles_settings import (
    MANY_STEPS,
    PretrainTilesOptions,
    PretrainTilesSettings,
    begun,
    completed,
)
from gigassl.pipeline.progress import Progress
from gigassl.slides.grid import GridSettings
from gigassl.tiles.image_tiles import ImageCut
from gigassl.tiles.labelled_images import LabelledImages, LabelledTiles
from gigassl.tiles.pretrain.catalogue import METHODS, new_method
from gigassl.tiles.pretrain.contact_sheet import save_contact_sheet
from gigassl.tiles.pretrain.method import Method
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch

log = logging.getLogger("gigassl")

_SHOWN = 8


def preview_tiles(
    source: TiledFiles, out: Path, *, picture: Path,
    settings: PretrainTilesSettings | None = None, options: PretrainTilesOptions | None = None,
    progress: Progress | None = None,
) -> PreviewResult:  # fmt: skip
    """Draws tiles of the first batch and their views as one PNG, and trains nothing.

    Args:
        out: the tile encoder to be trained; the index of the tiles is kept in its log.
        picture: the PNG to write.

    Raises:
        SettingsError: input or settings that cannot be used.
        BusyError: another run writes the same output.
        MachineError: disk full, read-only folder.
    """
    options = options or PretrainTilesOptions()
    settings = completed(settings or PretrainTilesSettings(), options)
    if picture.suffix.lower() != ".png":
        raise SettingsError(f"previews are .png files; got --preview {picture}")
    files = TileEncoderFiles(out=out)
    with claimed(out):
        data = tile_data(
            source, files.folder, settings=settings.data, options=options.data, fewest=_SHOWN,
            progress=progress,
        )  # fmt: skip
    seed = settings.training.seed
    batch = next(data.source.batches(BatchPlan(last=1, size=_SHOWN, seed=seed)))
    batch = _prepared(batch, settings, data=data)
    save_contact_sheet(
        picture, batch.tiles, batch.partners, settings=settings.training.views, seed=seed
    )
    return PreviewResult(picture=picture, n_tiles=_SHOWN, failures=data.failures)


def _prepared(batch: TileBatch, settings: PretrainTilesSettings, *, data: TileData) -> TileBatch:
    """The batch with the partners that the method would choose."""
    training = settings.training
    if METHODS.get(training.method, Method).prepare is Method.prepare:
        return batch
    fresh = begun(settings)
    method = new_method(
        training, fresh.network, width=fresh.record.dim, steps=MANY_STEPS, labels=data.labels
    )
    return method.prepare(batch, torch.Generator().manual_seed(training.seed))


def exam_of(
    images: LabelledImages, *, grid: GridSettings, image_mpp: float | None
) -> LabelledTiles:
    """The tiles of labelled images, read as the training reads its own.

    Args:
        image_mpp: µm/px of the images; None takes each as one tile.

    Raises:
        SettingsError: not one of them can be read.
    """
    cut = ImageCut(tile_px=grid.tile_px, mpp=grid.target_mpp, image_mpp=image_mpp)
    tiles = images.tiles(cut)
    for note in images.notes:
        log.info("%s", note)
    for file in tiles.unreadable:
        log.warning("left out of the labelled images: %s: %s", file.name, file.reason)
    return tiles
