"""Tiles of labelled images, drawn so that tasks, and the classes of each, have equal shares."""

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from gigassl.digests import digest_of_settings
from gigassl.errors import SettingsError
from gigassl.tiles.labelled_tasks import FileLabels, LabelledTasks
from gigassl.tiles.pretrain.draws import seats
from gigassl.tiles.pretrain.image_source import MEMORY_BYTES, ImageFiles, ImageIndex, index_of
from gigassl.tiles.pretrain.sampling import DrawnTiles, draw_generator
from gigassl.tiles.pretrain.settings import SamplingSettings
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch
from gigassl.tiles.pretrain.workers import FileNames, batches_of, refuse_too_few

log = logging.getLogger("gigassl")

_TRIES = 100
"""Draws of groups to hold out, of which one must leave every class on both sides."""


class TaskTiles:
    """A tile source (see ``TileSource``) of images that each have a task and a label.

    Every batch holds as many tiles of one task as of another, and within a task of one class as of
    another, as nearly as whole numbers allow. Within a class an image is drawn in proportion to
    how many tiles it holds side by side, to the power of ``slide_weight``; the square lies anywhere
    in it.

    Attributes:
        labels: what is asked of each image.
        unreadable: files that are no images.
    """

    def __init__(
        self, tasks: LabelledTasks, *, tile_px: int, settings: SamplingSettings,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:  # fmt: skip
        """Reads the sizes of all images.

        Args:
            tasks: whose images are drawn.
            tile_px: side of the tiles.
            settings: ``slide_weight``, ``jitter_mpp`` and ``neighbours`` apply.
            memory_bytes: images that are no larger than this in all are decoded once.

        Raises:
            SettingsError: a class without an image that can be read, or tasks of which only some
                have images as large as a tile.
            MachineError: no file handles left.
        """
        self.tile_px, self._settings, self._memory_bytes = tile_px, settings, memory_bytes
        names, paths, groups = zip(*tasks.files, strict=True)
        index = index_of(names, paths=paths)
        readable = set(index.names)
        kept = [k for k, name in enumerate(names) if name in readable]
        missing = [file for images in tasks.images for file in images.missing]
        self.unreadable = (*missing, *index.unreadable)
        self._take(index, tasks.labels.some(kept), [groups[k] for k in kept])
        _refuse_empty(self.labels)
        _refuse_sizes(index, self.labels, tile_px=tile_px)

    def _take(self, index: ImageIndex, labels: FileLabels, groups: Sequence[str]) -> None:
        self._index, self.labels = index, labels
        self._files: _TaskFiles | None = None
        self._room = np.maximum(index.size // self.tile_px, 1).prod(axis=1)
        self.names: Sequence[str] = index.names
        self.patient_ids: Sequence[str] = groups
        self.n_tiles = int(self._room.sum())
        self.digest = digest_of_settings(
            {
                "kind": "labelled images", "names": list(index.names), "size": index.size.tolist(),
                "n_bytes": index.n_bytes.tolist(), "tile_px": self.tile_px,
                "sampling": self._settings, "tasks": list(labels.tasks),
                "classes": [list(names) for names in labels.classes],
                "label": labels.label.tolist(), "groups": list(groups),
            }
        )  # fmt: skip

    def some(self, files: Sequence[int]) -> "TaskTiles":
        """The same of some images."""
        chosen, part = list(files), copy.copy(self)
        part._take(
            self._index.some(chosen), self.labels.some(chosen),
            [self.patient_ids[k] for k in chosen],
        )  # fmt: skip
        return part

    def held_out(self, share: float, *, rng: np.random.Generator) -> frozenset[str]:
        """Groups to hold out: about this share of each class.

        Raises:
            SettingsError: a class that cannot be both learned and tested.
        """
        return held_out_groups(self.patient_ids, self.labels, share=share, rng=rng)

    def batches(self, plan: BatchPlan) -> Iterator[TileBatch]:
        """The batches of a plan, in order.

        Raises:
            SettingsError: fewer tiles than a batch; while reading, hardly an image can be read.
            MachineError: no file handles left.
        """
        refuse_too_few(self.n_tiles, plan, what=f"{len(self.names)} images hold")
        if self._files is None:
            total = int(self._index.size.prod(axis=1).sum()) * 3
            images = ImageFiles(
                self._index, self._settings, room=self._room, tile_px=self.tile_px,
                in_memory=total <= self._memory_bytes,
            )  # fmt: skip
            weights = self._room**self._settings.slide_weight
            self._files = _TaskFiles(images=images, labels=self.labels, weights=weights)
        names = FileNames(names=self.names, paths=self._index.paths)
        return batches_of(self._files, plan, tile_px=self.tile_px, names=names)


@dataclass(frozen=True, kw_only=True, eq=False)
class _TaskFiles:
    """The images of all tasks, drawn task by task and class by class (see ``TileFiles``)."""

    images: ImageFiles
    labels: FileLabels
    weights: Float64[np.ndarray, " file"]

    def draw(self, plan: BatchPlan, step: int, *, attempt: int) -> DrawnTiles:
        """The squares of a whole batch; a place has the same class in every attempt."""
        rng = draw_generator(seed=plan.seed, step=step, attempt=0)
        strata = dealt_strata(self.labels, size=plan.size, rng=rng)
        if attempt:
            rng = draw_generator(seed=plan.seed, step=step, attempt=attempt)
        image = np.empty(plan.size, np.int64)
        stratum_of = self.labels.stratum
        for stratum in np.unique(strata).tolist():
            places = np.flatnonzero(strata == stratum)
            members = np.flatnonzero(stratum_of == stratum)
            drawn = seats(self.weights[members], size=len(places), most=len(places), rng=rng)
            image[places] = members[drawn]
        return self.images.squares(image, rng=rng)

    def read_into(
        self, out: UInt8[np.ndarray, "side side 3"], *, file: int, corner: tuple[int, int],
        mpp: float,
    ) -> None:  # fmt: skip
        """Fills ``out`` with a square of an image.

        Raises:
            SlideError: the image cannot be read, or has another size than before.
            MachineError: no file handles left.
        """
        self.images.read_into(out, file=file, corner=corner, mpp=mpp)


def tiles_of_task(size: int, *, n_tasks: int) -> list[int]:
    """How many tiles of a batch each task has; where they do not come out even, the first have one.

    >>> tiles_of_task(128, n_tasks=4), tiles_of_task(8, n_tasks=3)
    ([32, 32, 32, 32], [3, 3, 2])
    """
    return [size // n_tasks + (k < size % n_tasks) for k in range(n_tasks)]


def dealt_strata(
    labels: FileLabels, *, size: int, rng: np.random.Generator
) -> Int64[np.ndarray, " drawn"]:
    """The class, among those of all tasks, of each place in a batch, in random order.

    Classes without a file, as may be in a part that is held out, get no place.
    """
    there = np.unique(labels.stratum)
    task_of = np.array([k for k, names in enumerate(labels.classes) for _ in names])[there]
    found = []
    for task, n in enumerate(tiles_of_task(size, n_tasks=len(labels.tasks))):
        own = there[task_of == task]
        found.append(own[seats(np.ones(len(own)), size=n, most=n, rng=rng)])
    strata: Int64[np.ndarray, " drawn"] = rng.permutation(np.concatenate(found))
    return strata


def held_out_groups(
    groups: Sequence[str], labels: FileLabels, *, share: float, rng: np.random.Generator
) -> frozenset[str]:
    """Groups that hold about this share of the files of each class; every class is on both sides.

    Raises:
        SettingsError: a class that is in one group only, or whose groups cannot be divided.
    """
    names, group = np.unique(np.array(groups), return_inverse=True)
    counts = np.zeros((len(names), int(labels.stratum.max()) + 1), np.int64)
    np.add.at(counts, (group, labels.stratum), 1)
    held, missing = _drawn_groups(counts, share=share, rng=rng)
    for _ in range(_TRIES):
        n_groups = int((counts[:, missing] > 0).sum()) if missing is not None else 0
        if n_groups < 2:
            break
        held, missing = _drawn_groups(counts, share=share, rng=rng)
    if missing is not None:
        raise _undivided(labels.named(missing), n_groups=n_groups)
    return frozenset(names[held].tolist())


def _drawn_groups(
    counts: Int64[np.ndarray, "group stratum"], *, share: float, rng: np.random.Generator
) -> tuple[Bool[np.ndarray, " group"], int | None]:
    """Which groups are held out, and a class that then has none of them; None if all have.

    First each class without one gets a group, rare classes before others; then more, up to the
    share. No group is taken that is the last one of a class.
    """
    total, gone, held = counts.sum(axis=0), np.zeros_like(counts[0]), np.zeros(len(counts), bool)
    order = np.argsort((counts > 0).sum(axis=0), kind="stable")
    for wanted in (0.0, share):
        for stratum in order[total[order] > 0].tolist():
            for k in rng.permutation(np.flatnonzero((counts[:, stratum] > 0) & ~held)).tolist():
                more = gone[stratum] + counts[k, stratum] / 2
                enough = gone[stratum] and more > wanted * total[stratum]
                if not enough and bool((total - gone - counts[k])[counts[k] > 0].all()):
                    held[k] = True
                    gone += counts[k]
            if not gone[stratum]:
                return held, stratum
    return held, None


def _undivided(what: str, *, n_groups: int) -> SettingsError:
    if n_groups == 1:
        return SettingsError(
            f"{what} is in the images of one group only; two are needed, one to learn from and "
            "one to hold out: add images of other groups, leave the class out, or hold nothing "
            "out (--validation 0 --schedule cosine)"
        )
    return SettingsError(
        f"{what} cannot be held out: each of its {n_groups} groups is the last one of some class; "
        "add images of other groups, or hold nothing out (--validation 0 "
        "--schedule cosine)"
    )


def _refuse_empty(labels: FileLabels) -> None:
    there = set(labels.stratum.tolist())
    for stratum in range(sum(len(names) for names in labels.classes)):
        if stratum not in there:
            raise SettingsError(f"not one image of {labels.named(stratum)} can be read")


def _refuse_sizes(index: ImageIndex, labels: FileLabels, *, tile_px: int) -> None:
    """Tiles of all tasks must be enlarged, or none: else size says which task a tile is of."""
    sides = [
        float(np.median(index.size[labels.task == task].min(axis=1)))
        for task in range(len(labels.tasks))
    ]
    small = [k for k, side in enumerate(sides) if side < tile_px]
    if small and len(small) < len(sides):
        least, most = int(np.argmin(sides)), int(np.argmax(sides))
        raise SettingsError(
            f"images of '{labels.tasks[least]}' are {sides[least]:g} px wide and those of "
            f"'{labels.tasks[most]}' {sides[most]:g} px: at {tile_px} px only the former would be "
            f"enlarged; bring all tasks to the same µm/px and give --tile-px {int(min(sides))} or "
            "less"
        )
    n_enlarged = int((index.size.min(axis=1) < tile_px).sum())
    if n_enlarged:
        log.warning(
            "%d of %d images are smaller than %d px and are enlarged",
            n_enlarged, len(index.names), tile_px,
        )  # fmt: skip
