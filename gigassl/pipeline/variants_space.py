"""What the turned variants of a cohort will take on disk, from the tiles of three of its slides."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gigassl.errors import SlideError
from gigassl.pipeline.bank_estimate import N_PROBED, free_bytes, gigabytes
from gigassl.pipeline.stream import Prepare
from gigassl.slides.cohort import CohortSlide
from gigassl.tiles.turns import N_VARIANTS

log = logging.getLogger("gigassl")

_BYTES_A_VALUE = 2


def say_space(
    todo: Sequence[CohortSlide], folder: Path, *, prepare: Prepare, dim: int
) -> int | None:
    """Logs what eight variants need on disk; a warning where there is less than that.

    Returns:
        The estimate in bytes; None where no slide could be read.
    """
    picked = np.unique(np.linspace(0, len(todo) - 1, N_PROBED).round().astype(int)).tolist()
    counts = [_n_tiles(todo[i], prepare) for i in picked] if todo else []
    known = [count for count in counts if count is not None]
    if not known:
        return None
    n_bytes = round(sum(known) / len(known) * dim * _BYTES_A_VALUE * N_VARIANTS * len(todo))
    free = free_bytes(folder)
    sentence = (
        f"{N_VARIANTS} variants of {len(todo)} slides will take about {gigabytes(n_bytes)} on disk "
        f"({gigabytes(free)} free)"
    )
    if n_bytes > free:
        log.warning("%s; what is done when the disk is full is kept", sentence)
    else:
        log.info(sentence)
    return n_bytes


def _n_tiles(source: CohortSlide, prepare: Prepare) -> int | None:
    try:
        prepared = prepare(source)
    except (SlideError, OSError):
        return None  # it will be listed among the failures when its turn comes
    prepared.close()
    return len(prepared.grid)
