"""Sets of synthetic images on disk: written by several threads, resumed, each file whole."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from gigassl.digests import digest_of_settings, digest_of_tensors, plain
from gigassl.errors import SettingsError
from gigassl.files import written_whole
from gigassl.pipeline.output import make_folder
from gigassl.pipeline.progress import Progress, Silent
from gigassl.slides.digits import DigitSets

_Item = TypeVar("_Item")

TABLE, RECORD = "labels.csv", "settings.json"
Row = Mapping[str, str | int | float]


@dataclass(frozen=True, kw_only=True)
class SynthResult:
    """How the writing of a set ended.

    Attributes:
        out: its folder.
        n_images: of the set.
        n_new: written now; the others were there before.
        interrupted: whether it was stopped before its end; what was written is kept.
        use: the command that uses the set.
    """

    out: Path
    n_images: int
    n_new: int
    interrupted: bool
    use: str

    @property
    def failures(self) -> Sequence[object]:
        """None: an image that cannot be written stops the run."""
        return ()

    def sentence(self) -> str:
        """What happened, for people."""
        if self.interrupted:
            return f"interrupted; give the same command again to go on ({self.out})"
        before = self.n_images - self.n_new
        kept = f" ({before} from before)" if before else ""
        return f"{self.n_images} images{kept}: {self.out / TABLE}\nnext: {self.use}"

    def summary(self) -> dict[str, Any]:
        """What happened, for machines."""
        return {
            "out": str(self.out),
            "labels": str(self.out / TABLE),
            "interrupted": self.interrupted,
            "images": self.n_images,
            "images_new": self.n_new,
        }


def claim_set(out: Path, settings: Any, *, digits: DigitSets) -> None:
    """Notes in the folder what the set is made with, or checks that it is the same.

    Raises:
        SettingsError: the folder holds a set made with other settings or other digits.
        MachineError: it cannot be written to.
    """
    record = {
        "settings": plain(settings),
        "digits": {"source": digits.source, "digest": digest_of_digits(digits)},
    }
    make_folder(out)
    path = out / RECORD
    if path.is_file():
        if digest_of_settings(_read(path)) != digest_of_settings(record):
            raise SettingsError(
                f"{out} holds images made with other settings or digits (see {path}); choose "
                "another -o, or remove it"
            )
        return
    with written_whole(path) as part:
        part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def write_set(
    out: Path, items: Sequence[_Item], write: Callable[[_Item], tuple[Row, bool]], *, use: str,
    workers: int, progress: Progress | None,
) -> SynthResult:  # fmt: skip
    """Writes the images of a set in threads, then its table; their number changes nothing.

    Args:
        out: folder of the set.
        items: what to write, in the order of the table.
        write: makes one image, unless it is there; returns its row and whether it was made.
        use: the command that uses the set.
        workers: threads.
        progress: told of each image.
    """
    progress = progress or Silent()
    progress.started(len(items))
    rows: list[Row] = []
    n_new = 0
    pool = ThreadPoolExecutor(max_workers=workers)
    try:
        for row, new in pool.map(write, items):
            rows.append(row)
            n_new += new
            progress.slide_done(str(next(iter(row.values()))), failed=False)
    except KeyboardInterrupt:
        return SynthResult(out=out, n_images=len(items), n_new=0, interrupted=True, use=use)
    finally:
        pool.shutdown(cancel_futures=True)
    save_rows(rows, out / TABLE)
    return SynthResult(out=out, n_images=len(items), n_new=n_new, interrupted=False, use=use)


def save_rows(rows: Sequence[Row], path: Path) -> None:
    """Writes rows with equal columns as CSV."""
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is damaged: {error}; remove the folder") from error


def digest_of_digits(digits: DigitSets) -> str:
    """16 hex digits that name the pixels and labels of all digits."""
    arrays = {
        f"{name}.{what}": torch.from_numpy(np.ascontiguousarray(getattr(part, what)))
        for name, part in (("train", digits.train), ("test", digits.test))
        for what in ("images", "labels")
    }
    return digest_of_tensors(arrays)
