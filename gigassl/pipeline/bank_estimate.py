"""What a bank will cost: bytes on disk, and time, from a few batches of three slides."""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gigassl.bags.bank_draws import draw_for_slide
from gigassl.errors import SlideError
from gigassl.files import MachineError
from gigassl.pipeline.bank_stream import Augmenting
from gigassl.pipeline.progress import clock
from gigassl.pipeline.stream import Prepare
from gigassl.slides.cohort import CohortSlide

N_PROBED = 3
_TIMED_BATCHES = 2


@dataclass(frozen=True, kw_only=True)
class BankEstimate:
    """What is still to do for a bank, and what it takes.

    Attributes:
        n_slides: slides still to encode.
        n_bytes: disk space that they take.
        free_bytes: disk space that there is.
        seconds: time for all of them; None where no slide could be read.
    """

    n_slides: int
    n_bytes: int
    free_bytes: int
    seconds: float | None

    def sentence(self) -> str:
        """The estimate in one line."""
        took = "unknown" if self.seconds is None else f"about {clock(self.seconds)}"
        return (
            f"{self.n_slides} slides to do: {gigabytes(self.n_bytes)} on disk "
            f"({gigabytes(self.free_bytes)} free), time {took}"
        )

    def summary(self) -> dict[str, Any]:
        """The estimate in plain values, for ``--json``."""
        return asdict(self)

    def refuse_full_disk(self, folder: Path) -> None:
        """Refuses to begin what cannot end.

        Raises:
            MachineError: the disk has too little room.
        """
        if self.n_bytes > self.free_bytes:
            raise MachineError(
                f"the bank needs {gigabytes(self.n_bytes)} more and the disk of {folder} has "
                f"{gigabytes(self.free_bytes)} free; choose another -o, fewer --augmentations or "
                "--tiles, or --reduce pca:256"
            )


def gigabytes(n_bytes: int) -> str:
    """A size in decimal units, as disks are sold.

    >>> gigabytes(77_488_000_000), gigabytes(1_200_000)
    ('77.5 GB', '1.2 MB')
    """
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def free_bytes(folder: Path) -> int:
    """Room on the disk where a folder is or will be."""
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    return shutil.disk_usage(existing).free


def seconds_per_slide(
    sources: Sequence[CohortSlide], *, prepare: Prepare, how: Augmenting, workers: int
) -> float | None:
    """Mean time a slide takes, from a few batches of up to three that lie apart in the cohort.

    Reading and encoding overlap, so the slower of the two counts.
    """
    picked = np.unique(np.linspace(0, len(sources) - 1, N_PROBED).round().astype(int)).tolist()
    found = []
    for i in picked if sources else ():
        try:
            found.append(_probe(sources[i], prepare=prepare, how=how, workers=workers))
        except (SlideError, OSError):
            continue  # it will be listed among the failures when its turn comes
    return sum(found) / len(found) if found else None


def _probe(source: CohortSlide, *, prepare: Prepare, how: Augmenting, workers: int) -> float:
    begin = time.perf_counter()
    prepared = prepare(source)
    opening = time.perf_counter() - begin
    try:
        draws = draw_for_slide(how.settings, slide_id=source.slide_id, coords=prepared.grid.coords)
        some = draws.tiles[0][: how.encoder.batch_size]
        begin = time.perf_counter()
        tiles = prepared.tiles.read(some)
        reading = (time.perf_counter() - begin) / len(some) / workers
    finally:
        prepared.close()
    how.encoder.encode(tiles)  # the first call sets things up
    timed = draws.augmentations[:_TIMED_BATCHES]
    begin = time.perf_counter()
    for drawn in timed:
        how.encoder.encode(tiles, augmentation=drawn)
    batch = (time.perf_counter() - begin) / len(timed)
    per_augmentation = math.ceil(how.settings.tiles / how.encoder.batch_size)
    encoding = batch * per_augmentation * how.settings.augmentations
    return opening + max(encoding, reading * len(np.unique(draws.tiles)))
