"""What a tile encoder is trained on: slides, or images with or without labels, as one source."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gigassl.bags.prepare import TileSettings
from gigassl.errors import SettingsError
from gigassl.evaluate.contamination import slides_record, united
from gigassl.pipeline.failures import Failure
from gigassl.pipeline.output import make_folder
from gigassl.pipeline.progress import Progress, Silent
from gigassl.pipeline.tile_index import IndexOptions, tile_index
from gigassl.pipeline.training_log import ROUNDS, LogLayout, with_measured
from gigassl.slides.cohort import SLIDE_SUFFIXES, Cohort, is_bag, read_cohort
from gigassl.tiles.image_files import IMAGE_SUFFIXES, image_files_below
from gigassl.tiles.labelled_tasks import FileLabels, LabelledTasks
from gigassl.tiles.pretrain.image_source import ImageTiles
from gigassl.tiles.pretrain.index import TileIndex, load_index
from gigassl.tiles.pretrain.labelled_source import TaskTiles
from gigassl.tiles.pretrain.settings import SamplingSettings
from gigassl.tiles.pretrain.slide_source import SlideTiles
from gigassl.tiles.pretrain.source import TileSource, UnreadableFile
from gigassl.tiles.records import EncoderRecord

log = logging.getLogger("gigassl")

INDEX = "tiles.npz"
MOST_NAMED = 50_000
"""Images that a model card names."""

Kind = Literal["slides", "images"]
TiledFiles = Path | Cohort | LabelledTasks
"""Folder or table of slides, folder of images, or labelled images of one task or several."""


@dataclass(frozen=True, kw_only=True)
class TileDataSettings:
    """Which tiles a tile encoder learns from.

    Attributes:
        tiles: the grid that is laid over the tissue of slides; of image folders only the side and
            µm/px of the tiles count.
        sampling: which of them are drawn.
    """

    tiles: TileSettings = field(default_factory=TileSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)


@dataclass(frozen=True, kw_only=True)
class TileDataOptions:
    """How tiles are found.

    Attributes:
        images: the source is a folder of images, whatever it holds; None finds out.
        slide_dir: where the slides of a table without paths lie.
        masks: folder of tissue masks used instead of detection.
        threads: that look at slides; None for the cores of the machine.
    """

    images: bool | None = None
    slide_dir: Path | None = None
    masks: Path | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.masks is not None and not self.masks.is_dir():
            raise SettingsError(f"no such folder of tissue masks: {self.masks}")


@dataclass(frozen=True, kw_only=True)
class TileData:
    """Tiles to learn from.

    Attributes:
        kind: of the files that they lie in.
        source: draws them.
        failures: files that are left out from the beginning.
        labels: of the files; None where nothing is learned from these.
    """

    kind: Kind
    source: TileSource
    failures: Sequence[Failure] = ()
    labels: FileLabels | None = None

    def facts(self) -> dict[str, Any]:
        """What the model card says of the tiles: how many, and which classes each task has."""
        source, labels = self.source, self.labels
        tasks = () if labels is None else zip(labels.tasks, labels.classes, strict=True)
        learned = {name: list(classes) for name, classes in tasks}
        return {
            "kind": self.kind,
            "digest": source.digest,
            "files": len(source.names),
            "patients": len(set(source.patient_ids)),
            "tiles": source.n_tiles,
            **({"tasks": learned} if learned else {}),
        }

    def pretrained_on(self, begun: EncoderRecord) -> dict[str, Any]:
        """What the model card says of the files, by name; of too many images only how many.

        Args:
            begun: what the training began with, whose slides count as well.
        """
        names: Sequence[str] = self.source.names
        if self.kind == "images":
            names = [Path(name).stem for name in names]
        earlier = begun.pretrained_on
        foreign = begun.source != "random" and not earlier
        record = united(
            slides_record(
                names, self.source.patient_ids, begun_from=begun.name if foreign else "",
                labelled=self.labels is not None,
            ),
            earlier,
        )  # fmt: skip
        if self.kind == "images" and len(names) > MOST_NAMED:
            return {k: v for k, v in record.items() if not isinstance(v, list)}
        return record


def log_layout(data: TileData) -> LogLayout:
    """The columns of the log: also the accuracy of each task, where labels are learned."""
    if data.labels is None:
        return ROUNDS
    titles = {f"accuracy {task}": f"held-out accuracy: {task}" for task in data.labels.tasks}
    return with_measured(ROUNDS, titles)


def kind_of(source: TiledFiles, *, images: bool | None) -> Kind:
    """Whether a source is slides or images; a folder of both is slides.

    Raises:
        SettingsError: neither.
    """
    if isinstance(source, LabelledTasks):
        return "images"
    if isinstance(source, Cohort) or not source.is_dir():
        if images:
            raise SettingsError(f"--images wants a folder of images; got {source}")
        return "slides"
    if images is not None:
        return "images" if images else "slides"
    inside = [path for path in source.rglob("*") if path.name.lower().endswith(SLIDE_SUFFIXES)]
    pictures = [] if inside else image_files_below(source)
    if not inside and not pictures:
        raise SettingsError(
            f"neither slides ({' '.join(SLIDE_SUFFIXES)}) nor images ({' '.join(IMAGE_SUFFIXES)}) "
            f"found in {source}"
        )
    if pictures:
        log.info("%s holds no slides but images: tiles are cut from these", source)
        return "images"
    if all(path.suffix.lower() in IMAGE_SUFFIXES for path in inside):
        log.info("%s is read as slides; if its files are plain images, say --images", source)
    return "slides"


def tile_data(
    source: TiledFiles, folder: Path, *, settings: TileDataSettings, options: TileDataOptions,
    fewest: int, progress: Progress | None = None,
) -> TileData:  # fmt: skip
    """Finds the tiles of slides (kept in ``folder`` for the next run) or the images of a folder.

    Args:
        folder: of the log.
        fewest: tiles that are needed in all.

    Raises:
        SettingsError: nothing there that can be used, or too few tiles.
        BusyError: another run looks at the same slides for the same output.
        MachineError: disk, memory or file handles.
    """
    if isinstance(source, LabelledTasks):
        return _of_tasks(source, settings)
    if kind_of(source, images=options.images) == "images":
        return _of_images(Path(str(source)), settings)
    cohort = source if isinstance(source, Cohort) else _cohort(source, options)
    make_folder(folder)
    index, failures = tile_index(
        cohort, settings=settings.tiles, out=folder / INDEX, fewest=fewest,
        options=IndexOptions(masks=options.masks, workers=options.threads),
        progress=progress or Silent(),
    )  # fmt: skip
    return TileData(kind="slides", source=_of_index(index, settings), failures=tuple(failures))


def found_tile_data(
    source: TiledFiles, folder: Path, *, settings: TileDataSettings, options: TileDataOptions
) -> TileData:
    """The same in a process that shares the training, when the first one has found the tiles."""
    if isinstance(source, LabelledTasks):
        return _of_tasks(source, settings)
    if kind_of(source, images=options.images) == "images":
        return _of_images(Path(str(source)), settings)
    index = load_index(folder / INDEX)
    return TileData(kind="slides", source=_of_index(index, settings))


def _cohort(source: Path, options: TileDataOptions) -> Cohort:
    cohort = read_cohort(source, slide_dir=options.slide_dir)
    if any(is_bag(slide.path) for slide in cohort.slides):
        raise SettingsError(
            f"{source} holds bags, which are features already; tile encoders learn from the "
            "slides themselves"
        )
    return cohort


def _of_index(index: TileIndex, settings: TileDataSettings) -> SlideTiles:
    grid = settings.tiles.grid
    return SlideTiles(
        index, tile_px=grid.tile_px, target_mpp=grid.target_mpp, settings=settings.sampling
    )


def _of_images(folder: Path, settings: TileDataSettings) -> TileData:
    _refuse_second_mpp(settings)
    source = ImageTiles(folder, tile_px=settings.tiles.grid.tile_px, settings=settings.sampling)
    failures = [failure_of(file, stage="open") for file in source.unreadable]
    return TileData(kind="images", source=source, failures=tuple(failures))


def _of_tasks(tasks: LabelledTasks, settings: TileDataSettings) -> TileData:
    _refuse_second_mpp(settings)
    for name, images in zip(tasks.names, tasks.images, strict=True):
        for note in images.notes:
            log.info("%s: %s", name, note)
    source = TaskTiles(tasks, tile_px=settings.tiles.grid.tile_px, settings=settings.sampling)
    failures = [failure_of(file, stage="open") for file in source.unreadable]
    return TileData(kind="images", source=source, failures=tuple(failures), labels=source.labels)


def _refuse_second_mpp(settings: TileDataSettings) -> None:
    if settings.sampling.second_mpp is not None:
        raise SettingsError(
            "a folder of images does not say its µm/px, so there is no second one: leave out "
            "--second-mpp"
        )


def failure_of(file: UnreadableFile, *, stage: str) -> Failure:
    """The failures-file row of a file that was skipped."""
    return Failure(slide_id=file.name, path=file.path, stage=stage, reason=file.reason)
