"""Index of the tiles of all slides: where they lie, in plain arrays that are one file."""

import hashlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from gigassl.errors import SettingsError
from gigassl.files import written_whole

VERSION = 1
_TEXT = ("slide_ids", "patient_ids", "slide_digests", "inputs_digests")
_NUMBERS = ("mpp_l0", "size_l0", "side_l0", "step_l0", "jpeg_levels", "count", "coords", "tissue")
_OF_TILES = frozenset({"coords", "tissue"})
_SCALARS = ("tile_px", "target_mpp", "settings_digest")


@dataclass(frozen=True, kw_only=True, eq=False)
class TileIndex:
    """The kept tiles of all slides; plain arrays, saved as one file.

    Attributes:
        slide_ids, paths, patient_ids: one a slide.
        slide_digests: of the slides' content (see ``Slide``).
        inputs_digests: of what the tiles were laid from (see ``bags.prepare.inputs_digest``).
        mpp_l0: level-0 resolution, µm/px.
        size_l0: (width, height), level-0 px.
        side_l0: side of a tile of the grid, level-0 px, not rounded.
        step_l0: from one tile of the grid to the next, level-0 px, not rounded.
        jpeg_levels: bit ``k`` is set where the stored JPEG tiles of level ``k`` were found to give
            OpenSlide's pixels.
        count: tiles of each slide.
        coords: (x, y) of the tiles' top-left corners, level-0 px; slide after slide, row by row.
        tissue: share of each tile that is tissue.
        tile_px: side of a tile in px at ``target_mpp``.
        target_mpp: µm/px.
        settings_digest: of the settings that the tiles were laid with.
    """

    slide_ids: Sequence[str]
    paths: Sequence[Path]
    patient_ids: Sequence[str]
    slide_digests: Sequence[str]
    inputs_digests: Sequence[str]
    mpp_l0: Float64[np.ndarray, " slide"]
    size_l0: Int64[np.ndarray, "slide 2"]
    side_l0: Float64[np.ndarray, " slide"]
    step_l0: Float64[np.ndarray, " slide"]
    jpeg_levels: Int64[np.ndarray, " slide"]
    count: Int64[np.ndarray, " slide"]
    coords: Int64[np.ndarray, "tile 2"]
    tissue: Float32[np.ndarray, " tile"]
    tile_px: int
    target_mpp: float
    settings_digest: str

    def __len__(self) -> int:
        return len(self.slide_ids)

    @property
    def first(self) -> Int64[np.ndarray, " slide"]:
        """Where the tiles of each slide begin."""
        first: Int64[np.ndarray, " slide"] = np.cumsum(self.count) - self.count
        return first

    @property
    def digest(self) -> str:
        """16 hex digits of everything but the paths."""
        facts = [VERSION, self.tile_px, self.target_mpp, self.settings_digest]
        total = hashlib.sha256(repr(facts).encode())
        for name in _TEXT:
            total.update("\0".join(getattr(self, name)).encode())
        for name in _NUMBERS:
            total.update(np.ascontiguousarray(getattr(self, name)).data)
        return total.hexdigest()[:16]


def save_index(index: TileIndex, path: Path) -> None:
    """Writes an index as one ``.npz`` of plain arrays; paths of slides relative to its folder.

    Raises:
        MachineError: disk full, read-only or missing folder.
    """
    # from the folder's own place: ".." behind a link would lead elsewhere
    paths = [os.path.relpath(slide, start=path.parent.resolve()) for slide in index.paths]
    arrays: dict[str, Any] = {name: getattr(index, name) for name in _NUMBERS}
    arrays |= {name: np.array(getattr(index, name), dtype=np.str_) for name in _TEXT}
    arrays |= {name: np.array(getattr(index, name)) for name in _SCALARS}
    with written_whole(path) as part, part.open("wb") as handle:
        np.savez(handle, version=VERSION, paths=np.array(paths, dtype=np.str_), **arrays)


def load_index(path: Path) -> TileIndex:
    """Reads an index that ``save_index`` wrote.

    Raises:
        SettingsError: no such file, damaged, or of another version.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            if int(file["version"]) != VERSION:
                raise SettingsError(f"{path} was written by another version of gigassl; remove it")
            arrays: dict[str, Any] = {name: file[name] for name in _NUMBERS}
            texts: dict[str, Any] = {name: tuple(file[name].tolist()) for name in _TEXT}
            scalars: dict[str, Any] = {name: file[name].item() for name in _SCALARS}
            paths = [path.parent.resolve() / slide for slide in file["paths"].tolist()]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"{path} is no index of tiles, or damaged; remove it") from error
    slides = tuple(Path(os.path.normpath(slide)) for slide in paths)
    return TileIndex(paths=slides, **arrays, **texts, **scalars)


def joined(parts: Sequence[TileIndex]) -> TileIndex:
    """One index of the slides of several, which were laid with the same settings."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(p, name) for p in parts]) for name in _NUMBERS
    }
    texts: dict[str, Any] = {
        name: tuple(value for part in parts for value in getattr(part, name))
        for name in (*_TEXT, "paths")
    }
    return replace(parts[0], **arrays, **texts)


def chosen(index: TileIndex, keep: Sequence[int]) -> TileIndex:
    """The index of some of its slides, in the order of these numbers."""
    first = index.first
    tiles = [np.arange(first[k], first[k] + index.count[k]) for k in keep]
    tile = np.concatenate([np.zeros(0, np.int64), *tiles])
    arrays: dict[str, Any] = {
        name: getattr(index, name)[tile if name in _OF_TILES else np.asarray(keep, np.int64)]
        for name in _NUMBERS
    }
    texts: dict[str, Any] = {
        name: tuple(getattr(index, name)[k] for k in keep) for name in (*_TEXT, "paths")
    }
    return replace(index, **arrays, **texts)
