"""Importing published slide encoders and tile encoders into our own formats."""

from pathlib import Path

from gigassl.digests import digest_of_tensors
from gigassl.errors import SettingsError
from gigassl.pipeline.output import claimed
from gigassl.tiles.encoder_files import save_encoder
from gigassl.tiles.nic_importing import import_nic_encoder, origin_of
from gigassl.tiles.records import EncoderRecord
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


def import_tile_encoder(
    source: Path, out: Path, *, mpp: float | None = None
) -> tuple[EncoderRecord, str]:
    """Writes a published encoder of neural image compression as a tile encoder of ours.

    Args:
        source: the Keras file (``.h5``); nothing of it is run, and no Keras is needed.
        out: the ``.safetensors`` file to write; it serves wherever an encoder's name does.
        mpp: µm/px at which its tiles were read; None for 0.5, as published.

    Returns:
        The record, and the digest of the weights.

    Raises:
        SettingsError: another kind of file, or layers that are set up otherwise.
        MachineError: the output cannot be written.
    """
    if out.suffix != SUFFIX:
        raise SettingsError(f"tile encoders are {SUFFIX} files; got -o {out}")
    with claimed(out):
        record, network = import_nic_encoder(source, name=out.stem, mpp=mpp)
        save_encoder(out, record=record, network=network, training=origin_of(source))
    return record, digest_of_tensors(network.state_dict())
