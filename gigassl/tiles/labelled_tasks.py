"""Several sets of labelled images, each with a question of its own, for multitask encoders."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from gigassl.errors import SettingsError
from gigassl.tiles.labelled_images import LabelledImages, read_labelled


@dataclass(frozen=True, kw_only=True, eq=False)
class FileLabels:
    """What is asked of each file, and the right answer.

    Attributes:
        tasks: their names.
        classes: names of the classes of each task.
        task: number of the task that each file is of.
        label: number of its class among those of its task.
    """

    tasks: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    task: Int64[np.ndarray, " file"]
    label: Int64[np.ndarray, " file"]

    @property
    def stratum(self) -> Int64[np.ndarray, " file"]:
        """Number of each file's class among those of all tasks, one task after the other."""
        counts = np.array([len(names) for names in self.classes], np.int64)
        strata: Int64[np.ndarray, " file"] = (np.cumsum(counts) - counts)[self.task] + self.label
        return strata

    def named(self, stratum: int) -> str:
        """A class and its task in words."""
        flat = [(task, name) for task, names in zip(self.tasks, self.classes, strict=True)
                for name in names]  # fmt: skip
        task, name = flat[stratum]
        return f"class '{name}' of '{task}'"

    def some(self, files: Sequence[int]) -> "FileLabels":
        """The same of some files."""
        chosen = list(files)
        return FileLabels(
            tasks=self.tasks, classes=self.classes, task=self.task[chosen],
            label=self.label[chosen],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledTasks:
    """Sets of labelled images, a task each.

    Attributes:
        names: of the tasks.
        images: of each.

    Raises:
        SettingsError: no task, or two of one name.
    """

    names: tuple[str, ...]
    images: tuple[LabelledImages, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise SettingsError("no task is given; a task is a folder of labelled images, or a CSV")
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise SettingsError(f"two tasks are called '{twice[0]}'; give each folder once")

    @property
    def files(self) -> tuple[tuple[str, Path, str], ...]:
        """Name, path and group of each image, task after task; the name begins with the task's."""
        return tuple(
            (f"{task}/{name}", path, group)
            for task, images in zip(self.names, self.images, strict=True)
            for name, path, group in zip(images.names, images.paths, images.groups, strict=True)
        )

    @property
    def labels(self) -> FileLabels:
        """What is asked of each of the files."""
        sizes = [len(images) for images in self.images]
        return FileLabels(
            tasks=self.names,
            classes=tuple(images.classes for images in self.images),
            task=np.repeat(np.arange(len(sizes)), sizes).astype(np.int64),
            label=np.concatenate([images.labels for images in self.images]),
        )


def read_tasks(
    sources: Sequence[Path], *, label_column: str | None = None, group_column: str | None = None,
    group_pattern: str | None = None,
) -> LabelledTasks:  # fmt: skip
    """A task of each folder of class folders, or table beside its images, called as that is.

    Images of one group count as one wherever they are: a patient of several tasks is held out of
    all of them.

    Args:
        sources: see ``read_labelled``, as for the columns and the pattern.

    Raises:
        SettingsError: a source twice, or one that cannot be used.
    """
    found = [source.resolve() for source in sources]
    twice = next((s for s, path in zip(sources, found, strict=True) if found.count(path) > 1), None)
    if twice is not None:
        raise SettingsError(f"{twice} is given more than once; a task is learned once")
    return LabelledTasks(
        names=_task_names(found),
        images=tuple(
            read_labelled(
                source, label_column=label_column, group_column=group_column,
                group_pattern=group_pattern,
            )
            for source in sources
        ),
    )  # fmt: skip


def _task_names(sources: Sequence[Path]) -> tuple[str, ...]:
    """Names of folders or tables; with those of the folders around them where they are alike."""
    stems = [source.with_suffix("") if source.is_file() else source for source in sources]
    depth = 1
    while True:
        names = tuple("/".join(stem.parts[-depth:]) for stem in stems)
        if len(set(names)) == len(names) or depth > max(len(stem.parts) for stem in stems):
            return names
        depth += 1
