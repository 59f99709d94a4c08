"""First look at labelled images: which can be read, how large they are, what colour they have."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float64, Int64

from gigassl.errors import SettingsError, SlideError
from gigassl.pipeline.failures import Failure
from gigassl.pipeline.progress import Progress
from gigassl.tiles.image_files import read_rgb
from gigassl.tiles.image_tiles import ImageCut, refuse_small
from gigassl.tiles.labelled_images import LabelledImages

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """The images that every encoder can take.

    Attributes:
        rows: their row numbers among the labelled images.
        colours: mean and standard deviation of their R, G and B, in 0..1.
        digest: of their names and bytes.
        failures: images left out, and why.
    """

    rows: Int64[np.ndarray, " row"]
    colours: Float64[np.ndarray, "row 6"]
    digest: str
    failures: tuple[Failure, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Look:
    digest: bytes
    colour: Float64[np.ndarray, " 6"]
    error: SlideError | None = None


def survey(
    images: LabelledImages, cuts: Sequence[ImageCut], *, workers: int, progress: Progress
) -> Survey:
    """Reads every image once.

    Args:
        images: the labelled images.
        cuts: how each encoder will cut them; an image too small for one of them is left out.
        workers: reader threads.
        progress: is told of every image.

    Raises:
        SettingsError: not one image is left.
        MachineError: no file handles left.
    """
    failures = [
        Failure(slide_id=each.name, path=each.path, stage="open", reason=each.reason)
        for each in images.missing
    ]
    rows, colours, total = [], [], hashlib.sha256()
    progress.started(len(images))
    looks = read_ahead(lambda path: _look(path, cuts), images.paths, workers=workers)
    for row, look in enumerate(looks):
        name, error = images.names[row], look.error
        progress.slide_done(name, failed=error is not None)
        if error is None:
            rows.append(row)
            colours.append(look.colour)
            total.update(f"{name}|".encode() + look.digest)
        else:
            failures.append(
                Failure(slide_id=name, path=str(images.paths[row]), stage=error.stage,
                        reason=error.reason, detail=error.detail)
            )  # fmt: skip
    if not rows:
        raise SettingsError(
            f"not one of {len(images)} images can be used; {failures[0].slide_id}: "
            f"{failures[0].reason}"
        )
    return Survey(
        rows=np.array(rows), colours=np.stack(colours), digest=total.hexdigest()[:16],
        failures=tuple(failures),
    )  # fmt: skip


def read_ahead(
    read: Callable[[_Item], _Found], items: Iterable[_Item], *, workers: int
) -> Iterator[_Found]:
    """What ``read`` makes of each item, in their order, some of them read ahead in threads."""
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="read")
    ahead: deque[Future[_Found]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(read, item))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _look(path: Path, cuts: Sequence[ImageCut]) -> _Look:
    try:
        pixels = read_rgb(path)
        for cut in cuts:
            refuse_small(pixels, cut)
    except SlideError as error:
        return _Look(digest=b"", colour=np.zeros(6), error=error)
    counts = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in pixels.T])
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(axis=1)
    variance = counts @ levels**2 / counts.sum(axis=1) - mean**2
    shape = str(pixels.shape).encode()
    return _Look(
        digest=hashlib.sha256(shape + pixels.tobytes()).digest(),
        colour=np.concatenate([mean, np.sqrt(variance.clip(0))]),
    )
