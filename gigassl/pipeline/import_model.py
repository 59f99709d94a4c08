"""Importing published slide encoders into our own format."""

from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.pipeline.output import claimed
from gigassl.vectors.importing import read_published
from gigassl.vectors.slide_model import SlideModel, save_slide_model

SUFFIX = ".safetensors"


def import_model(
    source: Path,
    out: Path,
    *,
    tile_encoder: str = "",
    mpp: float | None = None,
    pca: Path | None = None,
) -> SlideModel:
    """Writes a published Giga-SSL checkpoint, ``scm`` or ``mlp``, as a slide encoder of ours.

    Args:
        source: the published ``.pth``; opened without running any code of it.
        out: the ``.safetensors`` file to write.
        tile_encoder: name of the tile encoder that it was trained on; no published file says it.
        mpp: µm/px at which its tiles were read.
        pca: the authors' pickled PCA of wide tile features; it becomes part of the model.

    Raises:
        SettingsError: another kind of file, or parts that do not fit one another.
        MachineError: the output cannot be written.
    """
    if out.suffix != SUFFIX:
        raise SettingsError(f"slide encoders are {SUFFIX} files; got -o {out}")
    with claimed(out):
        model = read_published(source, tile_encoder=tile_encoder, mpp=mpp, pca=pca)
        save_slide_model(out, model)
    return model
