"""Labelled images: a folder of class folders, or a table beside images; each of a group."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from gigassl.errors import SettingsError, SlideError
from gigassl.slides.cohort import patient_of
from gigassl.tiles.image_files import IMAGE_SUFFIXES, image_files_below, read_rgb
from gigassl.tiles.image_tables import ImageRow, columns_of, rows_of_table
from gigassl.tiles.image_tiles import ImageCut, cut_image
from gigassl.tiles.pretrain.source import UnreadableFile

_TABLES = {".csv", ".tsv"}


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledTiles:
    """Tiles of labelled images, as plain arrays.

    Attributes:
        tiles: of one side, in the order of the images.
        labels: class number of each tile's image.
        groups: of each tile's image.
        images: name of each tile's image.
        unreadable: images that gave no tile, and why.
    """

    tiles: UInt8[np.ndarray, "tile side side 3"]
    labels: Int64[np.ndarray, " tile"]
    groups: tuple[str, ...]
    images: tuple[str, ...]
    unreadable: tuple[UnreadableFile, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledImages:
    """Images with one label each, sorted by name.

    Attributes:
        names: paths below the folder, or what the table calls them; each once.
        paths: of the files.
        labels: class numbers.
        groups: images of one group (patient) are never both learned from and tested.
        classes: names of the classes, sorted.
        missing: rows of the table whose file is not there.
        notes: sentences on how the folder or table was understood.

    Raises:
        SettingsError: fewer than two classes, a name twice, or one group that holds everything.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: Int64[np.ndarray, " image"]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    missing: tuple[UnreadableFile, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise SettingsError(f"image '{twice[0]}' is named more than once; keep one row of it")
        if len(set(self.paths)) < len(self.paths):
            (path, _), *_ = Counter(self.paths).most_common(1)
            raise SettingsError(f"two images of the table are the same file, {path}; keep one row")
        if len(set(self.labels.tolist())) < 2:
            raise SettingsError(
                f"all {len(self)} images are of the class {', '.join(self.classes)}; two classes "
                "are needed: one folder each, or a table with --label-column"
            )
        if len(set(self.groups)) < 2:
            raise SettingsError(
                f"all {len(self)} images are of the group '{self.groups[0]}'; at least two are "
                "needed, so that one can be tested on what was learned from another"
            )

    def __len__(self) -> int:
        return len(self.names)

    def tiles(self, cut: ImageCut) -> LabelledTiles:
        """All tiles in memory, for small sets such as an exam during training.

        Raises:
            SettingsError: not one image can be read.
            MachineError: no file handles left.
        """
        found: list[UInt8[np.ndarray, "tile side side 3"]] = []
        rows: list[int] = []
        unreadable = list(self.missing)
        for row, (name, path) in enumerate(zip(self.names, self.paths, strict=True)):
            try:
                found.append(cut_image(read_rgb(path), cut))
                rows += [row] * len(found[-1])
            except SlideError as error:
                unreadable.append(UnreadableFile(name=name, path=str(path), reason=str(error)))
        if not found:
            raise SettingsError(
                f"not one of {len(self)} images gives a tile; the first: {unreadable[0].reason}"
            )
        return LabelledTiles(
            tiles=np.concatenate(found),
            labels=self.labels[rows],
            groups=tuple(self.groups[row] for row in rows),
            images=tuple(self.names[row] for row in rows),
            unreadable=tuple(unreadable),
        )


def read_labelled(
    source: Path, *, labels: Path | None = None, label_column: str | None = None,
    group_column: str | None = None, group_pattern: str | None = None,
) -> LabelledImages:  # fmt: skip
    """The labelled images of a folder of class folders, or of a table and its images.

    Args:
        source: a folder of one folder a class; a folder with images and one table (CSV, TSV)
            directly in it; or such a table, whose images lie beside or below it.
        labels: a table elsewhere, of images in ``source``. Its column ``path``, ``file``,
            ``image`` or ``name`` names them, with or without folder and suffix.
        label_column: column of the class; None: ``label``, ``class`` or ``target``.
        group_column: column of the group; None: ``group``, ``patient`` or the like.
        group_pattern: instead, a regular expression that is searched in each image's name; its
            first bracket, or all that it finds, is the group.

    Raises:
        SettingsError: no images, no such column, one class, one group, a name twice, a name that
            fits several files or a pattern that does not fit.
    """
    if not source.exists():
        raise SettingsError(f"no such folder or table of images: {source}")
    if source.suffix.lower() == ".zip":
        raise SettingsError(f"unpack {source} first: python -m zipfile -e {source} FOLDER")
    table, folder = _table_and_folder(source, labels)
    if group_pattern is not None and group_column is not None:
        raise SettingsError("groups come from a column or from a pattern; leave one of them out")
    if table is None:
        if label_column is not None or group_column is not None:
            raise SettingsError(f"columns belong to a table; {source} has none, give --labels FILE")
        (images, notes), missing = _of_class_folders(folder), list[UnreadableFile]()
    else:
        columns = columns_of(table, label=label_column, group=group_column)
        images, missing, notes = rows_of_table(columns, folder)
    images, said = _grouped(images, pattern=group_pattern)
    return _checked(images, missing=missing, notes=[*notes, *said])


def _table_and_folder(source: Path, labels: Path | None) -> tuple[Path | None, Path]:
    if labels is not None and not labels.is_file():
        raise SettingsError(f"no such table of labels: {labels}")
    if source.is_file():
        if labels is not None or source.suffix.lower() not in _TABLES:
            raise SettingsError(f"{source} must be a folder of images, or a CSV or TSV beside them")
        return source, source.parent
    tables = [path for path in sorted(source.iterdir()) if path.suffix.lower() in _TABLES]
    if labels is None and len(tables) > 1:
        raise SettingsError(
            f"{source} holds {len(tables)} tables; say which names the labels with --labels"
        )
    return (labels or (tables[0] if tables else None)), source


def _of_class_folders(folder: Path) -> tuple[list[ImageRow], list[str]]:
    files = [(path, path.relative_to(folder)) for path in image_files_below(folder)]
    found = [
        ImageRow(name=below.as_posix(), path=path, label=below.parts[0], group="")
        for path, below in files
        if len(below.parts) > 1
    ]
    if not found:
        raise SettingsError(
            f"{folder} holds neither class folders with images ({' '.join(IMAGE_SUFFIXES)}) nor a "
            "table of labels; give one with --labels"
        )
    loose = len(files) - len(found)
    return found, [f"{loose} images in no class folder are left out"] if loose else []


def _grouped(images: list[ImageRow], *, pattern: str | None) -> tuple[list[ImageRow], list[str]]:
    """Every image with a group, and what was done where none was named."""
    if pattern is not None:
        return _grouped_by(images, pattern), [f"groups: what '{pattern}' finds in the names"]
    notes, alone = [], 0
    found = []
    for image in images:
        barcode, rule = patient_of(Path(image.name).stem)
        own = barcode if rule == "tcga-barcode" else image.name
        alone += not image.group and own == image.name
        found.append(replace(image, group=image.group or own))
    if alone:
        notes.append(
            f"{alone} images have no known group and count as one each: if several are of one "
            "patient, scores come out too good; give --group-column or --group-pattern"
        )
    return found, notes


def _grouped_by(images: list[ImageRow], pattern: str) -> list[ImageRow]:
    try:
        searched = re.compile(pattern)
    except re.error as error:
        raise SettingsError(
            f"--group-pattern '{pattern}' is not a regular expression: {error}"
        ) from error
    found = []
    for image in images:
        match = searched.search(image.name)
        if match is None:
            raise SettingsError(
                f"--group-pattern '{pattern}' finds nothing in '{image.name}'; every image needs a "
                "group"
            )
        group = match[1] if searched.groups else match[0]
        found.append(replace(image, group=group or image.name))
    return found


def _checked(
    images: list[ImageRow], *, missing: Sequence[UnreadableFile], notes: Sequence[str]
) -> LabelledImages:
    ordered = sorted(images, key=lambda image: image.name)
    classes = tuple(sorted({image.label for image in ordered}))
    number = {name: k for k, name in enumerate(classes)}
    return LabelledImages(
        names=tuple(image.name for image in ordered),
        paths=tuple(image.path for image in ordered),
        labels=np.array([number[image.label] for image in ordered], np.int64),
        groups=tuple(image.group for image in ordered),
        classes=classes,
        missing=tuple(missing),
        notes=tuple(notes),
    )
