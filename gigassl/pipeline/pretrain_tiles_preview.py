"""A look at what a tile encoder would learn from, and the labelled tiles that it is examined on."""

import logging
from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.pipeline.output import claimed
from gigassl.pipeline.pretrain_tiles_data import tile_data
from gigassl.pipeline.pretrain_tiles_files import TileEncoderFiles
from gigassl.pipeline.pretrain_tiles_result import PreviewResult
from gigassl.pipeline.pretrain_tiles_settings import (
    PretrainTilesOptions,
    PretrainTilesSettings,
    with_masks,
)
from gigassl.pipeline.progress import Progress
from gigassl.slides.cohort import Cohort
from gigassl.slides.grid import GridSettings
from gigassl.tiles.image_tiles import ImageCut
from gigassl.tiles.labelled_images import LabelledImages, LabelledTiles
from gigassl.tiles.pretrain.contact_sheet import save_contact_sheet
from gigassl.tiles.pretrain.source import BatchPlan

log = logging.getLogger("gigassl")

_SHOWN = 8


def preview_tiles(
    source: Path | Cohort, out: Path, *, picture: Path,
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
    settings = with_masks(settings or PretrainTilesSettings(), options)
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
    save_contact_sheet(
        picture, batch.tiles, batch.partners, settings=settings.training.views, seed=seed
    )
    return PreviewResult(picture=picture, n_tiles=_SHOWN, failures=data.failures)


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
