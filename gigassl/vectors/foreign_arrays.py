"""Slide vectors in arrays: Giga-SSL's two ``.npy`` files, and TITAN's pickle; neither is run."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from gigassl.bags.pickle_parsing import (
    NotAdmittedError,
    array_of,
    checked,
    parsed_pickle,
    texts_of,
)
from gigassl.errors import SettingsError
from gigassl.vectors.foreign_record import ForeignVectors

IDS = "ids.npy"
_MOST_INSTRUCTIONS = 20_000_000  # a list of arrays has some 20 a slide
_FLOATS = ("f2", "f4", "f8")
_MALFORMED = (ValueError, LookupError, TypeError, OverflowError, EOFError)


def read_npy(path: Path) -> ForeignVectors:
    """Giga-SSL: ``embeddings.npy`` [slide, dim], and the slides' names in ``ids.npy`` beside it.

    Raises:
        SettingsError: no such pair of files.
    """
    ids = path.with_name(IDS)
    if not ids.is_file():
        raise SettingsError(
            f"{path.name} holds no slide names, and there is no {IDS} beside it; Giga-SSL writes "
            f"both. For another tool's array give a CSV or Parquet table with slide_id"
        )
    try:
        vectors = np.load(path, allow_pickle=False, mmap_mode="r")
    except _MALFORMED as error:
        raise SettingsError(f"{path.name} is no readable array of numbers: {error}") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise SettingsError(
            f"{path.name} is of {vectors.dtype} {vectors.shape}; expected floats [slide, dim]"
        )
    names = tuple(_names_of_npy(ids))
    if len(names) != len(vectors):
        raise SettingsError(
            f"{path.name} holds {len(vectors)} vectors and {IDS} {len(names)} names; they do not "
            "belong together"
        )
    return ForeignVectors(tool="giga-ssl", names=names, vectors=np.array(vectors))


def _names_of_npy(path: Path) -> list[str]:
    """Texts of an ``.npy``; numpy pickles objects inside of it, which are parsed and never run."""
    try:
        with path.open("rb") as handle:
            version = np.lib.format.read_magic(handle)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            _, _, dtype = read(handle)
            if dtype.hasobject:
                return texts_of(parsed_pickle(handle.read(), most=_MOST_INSTRUCTIONS))
        texts = np.load(path, allow_pickle=False)
        if texts.dtype.kind not in "US":
            raise ValueError(f"it is of {texts.dtype}, not of text")
        texts = np.char.decode(texts) if texts.dtype.kind == "S" else texts
        return [str(name) for name in texts.ravel()]
    except NotAdmittedError as error:
        raise _refused(path, error) from error
    except _MALFORMED as error:
        raise SettingsError(f"{path.name} is no readable array of names: {error}") from error


def read_pickle(path: Path) -> ForeignVectors:
    """TITAN: a pickled dictionary of ``embeddings`` [slide, dim] and ``filenames``.

    Raises:
        SettingsError: another pickle, or one that names anything but arrays; nothing of it is run.
    """
    try:
        content = checked(parsed_pickle(path.read_bytes(), most=_MOST_INSTRUCTIONS), dict)
        missing = sorted({"embeddings", "filenames"} - content.keys())
        if missing:
            raise ValueError(f"its dictionary lacks {' and '.join(missing)}")
        names, vectors = texts_of(content["filenames"]), _matrix(content["embeddings"])
    except NotAdmittedError as error:
        raise _refused(path, error) from error
    except _MALFORMED as error:
        raise SettingsError(
            f"{path.name} is no pickled dictionary of embeddings and filenames "
            f"(protocol 2 to 5): {error}"
        ) from error
    if len(names) != len(vectors):
        raise SettingsError(f"{path.name} holds {len(vectors)} vectors and {len(names)} filenames")
    return ForeignVectors(tool="titan", names=tuple(names), vectors=vectors, encoder="titan")


def _matrix(value: Any) -> Float[np.ndarray, "slide dim"]:
    if isinstance(value, (list, tuple)):
        rows = [array_of(row, kinds=_FLOATS).ravel() for row in value]
        if len({len(row) for row in rows}) > 1:
            raise ValueError("its vectors have different widths")
        return np.stack(rows)
    found = array_of(value, kinds=_FLOATS)
    if found.ndim == 3 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 2:
        raise ValueError(f"its embeddings have the shape {found.shape}, not [slide, dim]")
    return found


def _refused(path: Path, error: NotAdmittedError) -> SettingsError:
    return SettingsError(
        f"{path.name} names {error}, which arrays and their names do not need; nothing of the file "
        "was run. Convert it where it was made to Parquet or CSV"
    )
