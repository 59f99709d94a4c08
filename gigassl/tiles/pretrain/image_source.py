"""Tiles to learn from, cut at random from the images of a folder."""

import copy
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from PIL import Image

from gigassl.digests import digest_of_settings
from gigassl.errors import SettingsError, SlideError
from gigassl.files import machine_error
from gigassl.slides.average import resize_square
from gigassl.slides.cohort import patient_of
from gigassl.tiles.image_files import IMAGE_SUFFIXES, image_files_below, read_rgb
from gigassl.tiles.pretrain.draws import inside, neighbours, seats
from gigassl.tiles.pretrain.sampling import DrawnTiles, draw_generator
from gigassl.tiles.pretrain.settings import SamplingSettings
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch, UnreadableFile
from gigassl.tiles.pretrain.workers import FileNames, batches_of, refuse_too_few

log = logging.getLogger("gigassl")

MEMORY_BYTES = 2 << 30
"""Decoded images up to this size in all are kept in memory."""

_THREADS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageIndex:
    """The images of a folder that can be read, sorted by name.

    Attributes:
        names: paths below the folder.
        paths: of the files.
        size: (width, height), px.
        n_bytes: of each file.
        unreadable: the others.
    """

    names: Sequence[str]
    paths: Sequence[Path]
    size: Int64[np.ndarray, "image 2"]
    n_bytes: Int64[np.ndarray, " image"]
    unreadable: Sequence[UnreadableFile] = ()

    def some(self, images: Sequence[int]) -> "ImageIndex":
        """These images alone."""
        chosen = list(images)
        return ImageIndex(
            names=[self.names[k] for k in chosen], paths=[self.paths[k] for k in chosen],
            size=self.size[chosen], n_bytes=self.n_bytes[chosen],
        )  # fmt: skip


def index_images(folder: Path) -> ImageIndex:
    """Finds the images below a folder and reads their sizes, not their pixels.

    Raises:
        SettingsError: no folder, no images, or none that can be read.
        MachineError: no file handles left.
    """
    if not folder.is_dir():
        raise SettingsError(f"no such folder of images: {folder}")
    paths = image_files_below(folder)
    if not paths:
        raise SettingsError(f"no images found in {folder}; looked for {' '.join(IMAGE_SUFFIXES)}")
    index = index_of([path.relative_to(folder).as_posix() for path in paths], paths=paths)
    if not index.names:
        raise SettingsError(f"not one of the {len(paths)} images in {folder} can be read")
    return index


def index_of(names: Sequence[str], *, paths: Sequence[Path]) -> ImageIndex:
    """Reads the sizes of these images, not their pixels; those that are none are listed apart.

    Raises:
        MachineError: no file handles left.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = list(pool.map(_size_of, paths))
    found = list(zip(names, paths, sizes, strict=True))
    rows = [(name, path, size) for name, path, size in found if size is not None]
    return ImageIndex(
        names=[name for name, _, _ in rows],
        paths=[path for _, path, _ in rows],
        size=np.array([size for _, _, size in rows], np.int64).reshape(-1, 2),
        n_bytes=np.array([path.stat().st_size for _, path, _ in rows], np.int64),
        unreadable=[
            UnreadableFile(name=name, path=str(path), reason="it is not an image")
            for name, path, size in found
            if size is None
        ],
    )


def _size_of(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        if (known := machine_error(error, doing=f"cannot open {path}")) is not None:
            raise known from error
    except (ValueError, SyntaxError, Image.DecompressionBombError):
        pass
    return None


class ImageTiles:
    """A tile source: squares at random places of images (see ``TileSource``).

    An image is drawn in proportion to how many tiles it holds side by side, to the power of
    ``slide_weight``; the square lies anywhere in it, all places alike. Its side is the tile's times
    a random factor (``jitter_mpp``), no longer than the image. A neighbour lies one side away in
    the same image; where there is no room, it is the tile itself, moved by half a side or less.

    Attributes:
        unreadable: files of the folder that are no images.
        n_enlarged: images smaller than a tile, which are enlarged.
    """

    def __init__(
        self, folder: Path | ImageIndex, *, tile_px: int, settings: SamplingSettings,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:  # fmt: skip
        """Reads the sizes of all images.

        Args:
            folder: searched with all its folders.
            tile_px: side of the tiles.
            settings: ``slide_weight``, ``jitter_mpp`` and ``neighbours`` apply.
            memory_bytes: images that are no larger than this in all are decoded once.

        Raises:
            SettingsError: nothing there that can be read.
            MachineError: no file handles left.
        """
        self._settings = settings
        self.tile_px = tile_px
        self._memory_bytes = memory_bytes
        self._take(folder if isinstance(folder, ImageIndex) else index_images(folder))
        if self.n_enlarged:
            log.warning(
                "%d of %d images are smaller than %d px and are enlarged",
                self.n_enlarged, len(self.names), tile_px,
            )  # fmt: skip

    def _take(self, index: ImageIndex) -> None:
        tile_px = self.tile_px
        self._index = index
        self._files: ImageFiles | None = None
        self._in_memory = int(index.size.prod(axis=1).sum()) * 3 <= self._memory_bytes
        self._room = np.maximum(index.size // tile_px, 1).prod(axis=1)
        self.names = index.names
        self.patient_ids: Sequence[str] = [patient_of(Path(name).stem)[0] for name in index.names]
        self.n_tiles = int(self._room.sum())
        self.unreadable = tuple(index.unreadable)
        self.n_enlarged = int((index.size.min(axis=1) < tile_px).sum())
        self.digest = digest_of_settings(
            {
                "kind": "images", "names": list(index.names), "size": index.size.tolist(),
                "n_bytes": index.n_bytes.tolist(), "tile_px": tile_px, "sampling": self._settings,
            }
        )  # fmt: skip

    def some(self, files: Sequence[int]) -> "ImageTiles":
        """The same of some images."""
        part = copy.copy(self)
        part._take(self._index.some(files))
        return part

    def batches(self, plan: BatchPlan) -> Iterator[TileBatch]:
        """The batches of a plan, in order.

        Raises:
            SettingsError: fewer tiles than a batch; while reading, hardly an image can be read.
            MachineError: no file handles left.
        """
        refuse_too_few(self.n_tiles, plan, what=f"{len(self.names)} images hold")
        if self._files is None:
            self._files = ImageFiles(
                self._index, self._settings, room=self._room, tile_px=self.tile_px,
                in_memory=self._in_memory,
            )  # fmt: skip
        names = FileNames(names=self.names, paths=self._index.paths)
        return batches_of(self._files, plan, tile_px=self.tile_px, names=names)


class ImageFiles:
    """The images of a folder, decoded once if they fit into memory, else whenever needed."""

    def __init__(
        self, index: ImageIndex, settings: SamplingSettings,
        *, room: Int64[np.ndarray, " image"], tile_px: int, in_memory: bool,
    ) -> None:  # fmt: skip
        self._paths = index.paths
        self._size = index.size
        self._settings = settings
        self._weights: Float64[np.ndarray, " image"] = room**settings.slide_weight
        self._tile_px = tile_px
        self._kept = _decoded(index) if in_memory else None
        self._last: tuple[int, UInt8[np.ndarray, "row col 3"]] | None = None

    def draw(self, plan: BatchPlan, step: int, *, attempt: int) -> DrawnTiles:
        """The squares of a whole batch; their µm/px stands for px of the image a px of the tile."""
        rng = draw_generator(seed=plan.seed, step=step, attempt=attempt)
        image = seats(self._weights, size=plan.size, most=plan.size, rng=rng)
        return self.squares(image, rng=rng)

    def squares(
        self, image: Int64[np.ndarray, " drawn"], *, rng: np.random.Generator
    ) -> DrawnTiles:
        """A square anywhere in each of these images."""
        size, by = self._size[image], self._settings.jitter_mpp
        factor = np.exp(rng.uniform(-by, by, len(image)))
        side = np.minimum(np.rint(self._tile_px * factor), size.min(axis=1))
        corner = np.floor(rng.random((len(image), 2)) * (size - side[:, None] + 1))
        corner_px = inside(corner, side=side, size=size)
        partner = None
        if self._settings.neighbours:
            partner = neighbours(corner_px, side=side, size=size, allowed=_anywhere, rng=rng)
        return DrawnTiles(
            slide=image, corner=corner_px, mpp=side / self._tile_px, partner=partner, side=side
        )

    def read_into(
        self, out: UInt8[np.ndarray, "side side 3"], *, file: int, corner: tuple[int, int],
        mpp: float,
    ) -> None:  # fmt: skip
        """Fills ``out`` with a square of an image.

        Raises:
            SlideError: the image cannot be read, or has another size than before.
            MachineError: no file handles left.
        """
        pixels = self._image(file)
        side, (x, y) = round(mpp * self._tile_px), corner
        square = pixels[y : y + side, x : x + side]
        if side == self._tile_px:
            out[...] = square
        else:
            resize_square(np.ascontiguousarray(square), out=out)

    def _image(self, number: int) -> UInt8[np.ndarray, "row col 3"]:
        size = self._size[number]
        if self._kept is not None and self._kept.first[number] >= 0:
            start, n_bytes = int(self._kept.first[number]), int(size.prod()) * 3
            flat = self._kept.pixels[start : start + n_bytes].numpy()
            return flat.reshape(int(size[1]), int(size[0]), 3)
        # squares of one image are read one after another, a square and its neighbour first of all
        if self._last is None or self._last[0] != number:
            self._last = number, _read(self._paths[number], size)
        return self._last[1]


def _anywhere(centre: Float64[np.ndarray, "drawn 2"]) -> Bool[np.ndarray, " drawn"]:
    return np.ones(len(centre), dtype=bool)


def _read(path: Path, size: Int64[np.ndarray, " 2"]) -> UInt8[np.ndarray, "row col 3"]:
    pixels = read_rgb(path)
    if pixels.shape[1::-1] != tuple(size.tolist()):
        raise SlideError("its size has changed since the training began", stage="read")
    return pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class _Decoded:
    """The pixels of all images one after another.

    Attributes:
        pixels: one tensor, which torch lays in memory shared by all processes that it goes to.
        first: where each image begins; -1 where one could not be read.
    """

    pixels: UInt8[torch.Tensor, " byte"]
    first: Int64[np.ndarray, " image"]


def _decoded(index: ImageIndex) -> _Decoded:
    n_bytes = index.size.prod(axis=1) * 3
    first = np.cumsum(n_bytes) - n_bytes
    pixels = torch.empty(int(n_bytes.sum()), dtype=torch.uint8)

    def decode(number: int) -> bool:
        try:
            image = _read(index.paths[number], index.size[number])
        except SlideError:
            return False  # told when it is drawn
        start = int(first[number])
        pixels[start : start + image.size] = torch.from_numpy(image.reshape(-1))
        return True

    with ThreadPoolExecutor(_THREADS) as pool:
        whole = list(pool.map(decode, range(len(index.paths))))
    return _Decoded(pixels=pixels, first=np.where(whole, first, -1))
