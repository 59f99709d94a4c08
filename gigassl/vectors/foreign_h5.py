"""Slide vectors in HDF5: one file a slide (TRIDENT, STAMP), or one a cohort (COBRA)."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from gigassl.errors import SettingsError, SlideError
from gigassl.hdf5 import why_not_trusted
from gigassl.slides.cohort import slide_id_of
from gigassl.vectors.foreign_record import ForeignVectors

_KEYS = ("features", "feats")
_FOLDER = "slide_features_"


def read_h5(path: Path) -> ForeignVectors:
    """TRIDENT's or STAMP's file of one slide, or COBRA's of many.

    Raises:
        SettingsError: a file of another kind, such as a bag of tiles.
        SlideError: no readable HDF5.
    """
    try:
        with h5py.File(path, "r") as file:
            wrong = why_not_trusted(file)
            if wrong:
                raise SlideError(f"is not read: {wrong}", stage="open")
            key = next((k for k in _KEYS if isinstance(file.get(k), h5py.Dataset)), None)
            return _of_cohort(file, path) if key is None else _of_slide(file, key, path=path)
    except OSError as error:
        raise SlideError(
            "is no readable HDF5 file, or is damaged", stage="open", detail=str(error)
        ) from error


def _of_slide(file: h5py.File, key: str, *, path: Path) -> ForeignVectors:
    data = file[key]
    if "coords" in file and data.ndim == 2 and len(file["coords"]) == len(data):
        raise SettingsError(
            f"{path.name} holds {len(data)} tiles, not a slide's vector; use `gigassl embed` on it"
        )
    encoder = _text(data.attrs.get("encoder")) or _text(file.attrs.get("encoder"))
    encoder = encoder or _text(file.attrs.get("extractor"))
    if not encoder and path.parent.name.startswith(_FOLDER):
        encoder = path.parent.name.removeprefix(_FOLDER)
    return ForeignVectors(
        tool="stamp" if key == "feats" else "trident",
        names=(slide_id_of(path),),
        vectors=_row(data, where=path.name)[None],
        encoder=encoder,
    )


def _of_cohort(file: h5py.File, path: Path) -> ForeignVectors:
    """One dataset a slide, by its name; or one group a slide, with ``feats`` inside."""
    rows: dict[str, Float[np.ndarray, " dim"]] = {}
    for name, item in file.items():
        data = item
        if isinstance(item, h5py.Group):
            data = next((item[k] for k in _KEYS if k in item), None)
        if not isinstance(data, h5py.Dataset):
            raise _unknown(file, path)
        rows[name] = _row(data, where=f"{path.name}, '{name}'")
    if not rows:
        raise SettingsError(f"{path.name} holds no slide")
    widths = sorted({len(row) for row in rows.values()})
    if len(widths) > 1:
        raise SettingsError(f"{path.name} holds vectors of different widths: {widths[:5]}")
    return ForeignVectors(
        tool="cobra",
        names=tuple(rows),
        vectors=np.stack(list(rows.values())),
        encoder=_text(file.attrs.get("extractor")),
    )


def _row(data: h5py.Dataset, *, where: str) -> Float[np.ndarray, " dim"]:
    if data.dtype.kind != "f" or data.size == 0 or data.size != data.shape[-1]:
        raise SettingsError(
            f"{where} is of {data.dtype} {data.shape}; expected floats [dim] or [1, dim]"
        )
    row: Float[np.ndarray, " dim"] = np.asarray(data[()]).reshape(-1)
    return row


def _unknown(file: h5py.File, path: Path) -> SettingsError:
    held = ", ".join(sorted(file)[:5])
    return SettingsError(
        f"{path.name} is none of the known layouts of slide vectors (TRIDENT, STAMP, COBRA); it "
        f"holds: {held}"
    )


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)
