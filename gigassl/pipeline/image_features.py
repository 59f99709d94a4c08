"""Features of images by a tile encoder: mean of their tiles, kept on disk, and how fast it was."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8

from gigassl.digests import digest_of_settings, plain
from gigassl.files import written_whole
from gigassl.pipeline.image_survey import read_ahead
from gigassl.pipeline.progress import Progress
from gigassl.tiles.engine import TileEncoder
from gigassl.tiles.image_files import read_rgb
from gigassl.tiles.image_tiles import ImageCut, cut_image

log = logging.getLogger("gigassl")

_STEADY = 0.8
_FEWEST_TIMED, _SECONDS_TIMED, _MOST_TIMED = 5, 1.0, 50


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast an encoder was.

    Attributes:
        tiles_per_s: from bytes in memory to features in memory, whole batches, nothing beside it;
            of the fastest batch.
        median: of all batches; far below, the machine was busy with other work.
        device: where.
        threads: of PyTorch, on a CPU.
        batch_size: tiles at once.
        precision: of the arithmetic.
        backend: that ran it.
    """

    tiles_per_s: float
    median: float
    device: str
    threads: int
    batch_size: int
    precision: str
    backend: str

    @property
    def unsteady(self) -> bool:
        """Whether other work on the machine slowed many batches, so that speeds do not compare."""
        return self.median < _STEADY * self.tiles_per_s

    def said(self) -> str:
        """The conditions, in words."""
        cores = f", {self.threads} threads" if self.device == "cpu" else ""
        return (
            f"{self.device}{cores}, {self.backend}, {self.precision}, batches of {self.batch_size}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFeatures:
    """What one encoder says of all images.

    Attributes:
        features: mean over the tiles of each image.
        n_tiles: of all images together.
        speed: when they were encoded.
        digest: of all that decides them.
        reused: whether they lay on the disk already.
    """

    features: Float32[np.ndarray, "image dim"]
    n_tiles: int
    speed: Speed
    digest: str
    reused: bool


@dataclass(frozen=True, kw_only=True)
class ImageJob:
    """The images to encode, and where their features are kept.

    Attributes:
        names, paths: of the images.
        digest: of the images' names and pixels.
        folder: holds one file an encoder.
        workers: reader threads.
    """

    names: Sequence[str]
    paths: Sequence[Path]
    digest: str
    folder: Path
    workers: int


def image_features(
    encoder: TileEncoder, cut: ImageCut, job: ImageJob, *, progress: Progress
) -> ImageFeatures:
    """Encodes all images, unless their features by the same weights and settings lie there.

    Raises:
        SlideError: features that are not finite, or an image that is gone meanwhile.
        MachineError: no memory, no space, no file handles left.
    """
    identity = {name: value for name, value in encoder.identity().items() if name != "name"}
    digest = digest_of_settings({"encoder": identity, "images": job.digest, "cut": plain(cut)})
    kept = job.folder / f"{digest}.npz"
    found = _kept(kept, digest=digest) if kept.is_file() else None
    if found is not None and len(found.features) == len(job.paths):
        return found
    features, n_tiles, batch = _encoded(encoder, cut, job, progress=progress)
    speed = _measured(encoder, batch)
    with written_whole(kept) as part, part.open("wb") as handle:
        np.savez(
            handle, features=features, n_tiles=np.int64(n_tiles),
            speed=np.array(json.dumps(asdict(speed))),
        )  # fmt: skip
    return ImageFeatures(
        features=features, n_tiles=n_tiles, speed=speed, digest=digest, reused=False
    )


def _kept(path: Path, *, digest: str) -> ImageFeatures | None:
    try:
        # opened here, since np.load leaves the handle of a damaged file open
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as held:
            return ImageFeatures(
                features=held["features"], n_tiles=int(held["n_tiles"]),
                speed=Speed(**json.loads(str(held["speed"]))), digest=digest, reused=True,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        log.warning("%s is damaged (%s); its images are encoded anew", path.name, error)
        return None


def _encoded(
    encoder: TileEncoder, cut: ImageCut, job: ImageJob, *, progress: Progress
) -> tuple[Float32[np.ndarray, "image dim"], int, UInt8[np.ndarray, "tile row col 3"]]:
    """The features, the number of tiles, and a batch to measure the speed with."""
    sums = np.zeros((len(job.paths), encoder.dim), np.float64)
    counts = np.zeros(len(job.paths), np.int64)
    sample: UInt8[np.ndarray, "tile row col 3"] | None = None
    done = 0
    progress.started(len(job.paths))
    images = read_ahead(lambda path: cut_image(read_rgb(path), cut), job.paths, workers=job.workers)
    for tiles, owners in _batches(images, size=encoder.batch_size):
        sample = tiles if sample is None else sample
        np.add.at(sums, owners, encoder.encode(tiles).astype(np.float64))
        np.add.at(counts, owners, 1)
        progress.tiles_done(len(tiles))
        while done < owners[-1]:
            progress.slide_done(job.names[done], failed=False)
            done += 1
    progress.slide_done(job.names[-1], failed=False)
    assert sample is not None
    return (sums / counts[:, None]).astype(np.float32), int(counts.sum()), sample


def _batches(
    images: Iterator[UInt8[np.ndarray, "tile row col 3"]], *, size: int
) -> Iterator[tuple[UInt8[np.ndarray, "tile row col 3"], Int64[np.ndarray, " tile"]]]:
    """Whole batches across images, and the image that each tile is of; the last may be smaller."""
    held: list[UInt8[np.ndarray, "row col 3"]] = []
    owners: list[int] = []
    for number, tiles in enumerate(images):
        for tile in tiles:
            held.append(tile)
            owners.append(number)
            if len(held) == size:
                yield np.stack(held), np.array(owners)
                held, owners = [], []
    if held:
        yield np.stack(held), np.array(owners)


def _measured(encoder: TileEncoder, batch: UInt8[np.ndarray, "tile row col 3"]) -> Speed:
    """The fastest of several batches, since what else the machine does does not count.

    Readers are done, and the encoder is warm.
    """
    seconds: list[float] = []
    while len(seconds) < _FEWEST_TIMED or (
        sum(seconds) < _SECONDS_TIMED and len(seconds) < _MOST_TIMED
    ):
        begin = time.perf_counter()
        encoder.encode(batch)
        seconds.append(time.perf_counter() - begin)
    return Speed(
        # a smaller batch is padded, so it takes as long as a whole one
        tiles_per_s=encoder.batch_size / min(seconds),
        median=encoder.batch_size / float(np.median(seconds)),
        device=encoder.device,
        threads=torch.get_num_threads(),
        batch_size=encoder.batch_size,
        precision=encoder.precision,
        backend=encoder.backend,
    )
