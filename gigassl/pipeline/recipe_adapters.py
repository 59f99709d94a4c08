"""Functions that recipes cannot call as they are, with the result that every step has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigassl.pipeline import import_model as importing
from gigassl.pipeline import pretrain_tiles as pretraining
from gigassl.pipeline.pretrain_tiles_result import PretrainTilesResult
from gigassl.pipeline.pretrain_tiles_settings import PretrainTilesOptions, PretrainTilesSettings
from gigassl.pipeline.progress import Progress
from gigassl.slides import synthetic
from gigassl.tiles.labelled_tasks import LabelledTasks, read_tasks
from gigassl.training.monitors import Monitor


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a step made that either comes whole or raises an error.

    Attributes:
        out: the file or folder.
        what: of it, in a few words.
    """

    out: Path
    what: str
    failures: tuple[()] = ()
    interrupted: bool = False

    def sentence(self) -> str:
        """What was made, for people."""
        return f"{self.out}: {self.what}"

    def summary(self) -> dict[str, Any]:
        """What was made, for machines."""
        return {"out": str(self.out), "what": self.what}


def make_cohort(folder: Path, *, n_slides: int = 12, seed: int = 0, side_px: int = 3136) -> Made:
    """Paints synthetic slides, and ``cohort.csv`` beside them; see ``gigassl.make_cohort``."""
    table = synthetic.make_cohort(folder, n_slides=n_slides, seed=seed, side_px=side_px)
    return Made(out=table, what=f"{n_slides} synthetic slides")


def import_model(
    source: Path, out: Path, *, tile_encoder: str = "", mpp: float | None = None,
    pca: Path | None = None,
) -> Made:  # fmt: skip
    """Converts a published slide encoder; see ``gigassl.import_model``."""
    model = importing.import_model(source, out, tile_encoder=tile_encoder, mpp=mpp, pca=pca)
    record = model.record
    return Made(
        out=out,
        what=f"{record.architecture}, {record.dim}-d tiles → {record.width}-d vectors, digest "
        f"{model.digest}",
    )


def import_tile_encoder(source: Path, out: Path, *, mpp: float | None = None) -> Made:
    """Converts a published tile encoder; see ``gigassl.import_tile_encoder``."""
    record, digest = importing.import_tile_encoder(source, out, mpp=mpp)
    return Made(out=out, what=f"{record.name}, {record.dim}-d features, digest {digest}")


@dataclass(frozen=True, kw_only=True)
class TaskFolders:
    """Labelled images, for the methods that learn from them.

    Attributes:
        tasks: folders of class folders, or CSVs, one a task.
        group_pattern: what of an image's name says which patient it is of.
    """

    tasks: tuple[Path, ...]
    group_pattern: str | None = None


def pretrain_tiles(
    source: Path | TaskFolders, out: Path, *, settings: PretrainTilesSettings | None = None,
    options: PretrainTilesOptions | None = None, progress: Progress | None = None,
    monitor: Monitor | None = None,
) -> PretrainTilesResult:  # fmt: skip
    """Trains a tile encoder on slides, or on labelled images; see ``gigassl.pretrain_tiles``."""
    tiled = source if isinstance(source, Path) else _labelled(source)
    return pretraining.pretrain_tiles(
        tiled, out, settings=settings, options=options, progress=progress, monitor=monitor
    )


def _labelled(source: TaskFolders) -> LabelledTasks:
    return read_tasks(source.tasks, group_pattern=source.group_pattern)
