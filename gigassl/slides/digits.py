"""Handwritten digits as images: scikit-learn's 8 × 8 px, MNIST's IDX files, or class folders."""

import gzip
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, UnidentifiedImageError

from gigassl.errors import SettingsError, unknown_name

DIGIT_TASKS: Mapping[str, tuple[int, ...]] = {
    "parity": (0, 1, 0, 1, 0, 1, 0, 1, 0, 1),
    "at-least-5": (0, 0, 0, 0, 0, 1, 1, 1, 1, 1),
    "loop": (1, 0, 0, 0, 0, 0, 1, 0, 1, 1),
    "mod-3": (0, 1, 2, 0, 1, 2, 0, 1, 2, 0),
}
"""Task → class of each digit 0 … 9; the four together identify every digit."""

_SPLIT_SEED = 0
_TRAIN_SHARE = 1200 / 1797
_IDX_PARTS = {"train": "train", "test": "t10k"}
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Digits:
    """Images of digits and what they show.

    Attributes:
        images: white ink on black, 0 to 255.
        labels: 0 to 9.
    """

    images: UInt8[np.ndarray, "digit side side"]
    labels: Int64[np.ndarray, " digit"]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side_px(self) -> int:
        """Side of the images."""
        return int(self.images.shape[1])

    def picked(self, rows: Int64[np.ndarray, " row"]) -> "Digits":
        """Some of them, in the order of ``rows``."""
        return Digits(images=self.images[rows], labels=self.labels[rows])

    def of_side(self, side_px: int, *, threshold: int | None = None) -> "Digits":
        """The same digits in another size, by whole factors, so that nothing is blurred.

        Larger images keep every k-th pixel of their middle, smaller ones repeat their pixels;
        what is missing to the side is black. MNIST at 9 px is every third of the middle 27.

        Args:
            side_px: wanted side.
            threshold: first set pixels above it to 255 and all others to 0.
        """
        images = self.images
        if threshold is not None:
            images = np.where(images > threshold, 255, 0).astype(np.uint8)
        return Digits(images=_resized(images, side_px), labels=self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class DigitSets:
    """Digits to make training images of, and others to make test images of.

    Attributes:
        train, test: no digit is in both.
        source: what they are, for tables and titles.
    """

    train: Digits
    test: Digits
    source: str


def read_digits(source: Path | None = None) -> DigitSets:
    """Digits of scikit-learn, or of a folder.

    Args:
        source: None for scikit-learn's 1,797 digits of 8 × 8 px, split at random, once and for
            all, into 1,200 and 597. Else a folder with MNIST's four IDX files (plain or .gz), or
            with a folder of images for each digit, either directly (two thirds are for training)
            or below ``train`` and ``test``.

    Raises:
        SettingsError: no such folder, files that are none of these, or a digit without images.
    """
    if source is None:
        return _of_sklearn()
    if not source.is_dir():
        raise SettingsError(f"no such folder of digits: {source}")
    if any(source.glob("*-idx3-ubyte*")) or any(source.glob("*.idx3-ubyte*")):
        sets = {part: _of_idx(source, part) for part in _IDX_PARTS}
    elif (source / "train").is_dir():
        sets = {part: _of_class_folders(source / part) for part in _IDX_PARTS}
    else:
        train, test = _split(_of_class_folders(source))
        sets = {"train": train, "test": test}
    for part, digits in sets.items():
        _require_all(digits, where=f"{source} ({part})")
    return DigitSets(train=sets["train"], test=sets["test"], source=source.name)


def task_labels(labels: Int64[np.ndarray, " digit"], task: str) -> Int64[np.ndarray, " digit"]:
    """Classes of digits in one of the ``DIGIT_TASKS``.

    >>> task_labels(np.array([4, 7, 8]), "loop").tolist()
    [0, 0, 1]

    Raises:
        SettingsError: unknown task.
    """
    if task not in DIGIT_TASKS:
        raise unknown_name("digit task", task, known=DIGIT_TASKS)
    classes: Int64[np.ndarray, " digit"] = np.array(DIGIT_TASKS[task], np.int64)[labels]
    return classes


def _of_sklearn() -> DigitSets:
    from sklearn.datasets import load_digits

    found = load_digits()
    # values 0 to 16
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    train, test = _split(Digits(images=images, labels=found.target.astype(np.int64)))
    return DigitSets(train=train, test=test, source="scikit-learn digits")


def _split(digits: Digits) -> tuple[Digits, Digits]:
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(digits))
    n_train = round(len(digits) * _TRAIN_SHARE)
    return digits.picked(np.sort(order[:n_train])), digits.picked(np.sort(order[n_train:]))


def _of_idx(folder: Path, part: str) -> Digits:
    """One part of MNIST; the format stands in the header: magic number, sizes, bytes."""
    images, labels = (_idx_array(folder, part, kind) for kind in ("images", "labels"))
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise SettingsError(
            f"{folder}: the {part} files hold images of shape {images.shape} and labels of shape "
            f"{labels.shape}; expected one label an image"
        )
    return Digits(images=_squares(images), labels=labels.astype(np.int64))


def _idx_array(folder: Path, part: str, kind: str) -> UInt8[np.ndarray, "*sizes"]:
    dims = {"images": 3, "labels": 1}[kind]
    stem = f"{_IDX_PARTS[part]}-{kind}"
    names = [f"{stem}{mark}idx{dims}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise SettingsError(f"{folder} lacks {names[0]} (or .gz); MNIST has four such files")
    content = path.read_bytes()
    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        if content[:4] != bytes((0, 0, 8, dims)):
            raise ValueError(f"begins with {content[:4].hex()}")
        sizes = struct.unpack(f">{dims}I", content[4 : 4 + 4 * dims])
        values = np.frombuffer(content, np.uint8, math.prod(sizes), 4 + 4 * dims)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise SettingsError(f"{path} is no IDX file of {dims} dimensions: {error}") from error
    return values.reshape(sizes)


def _of_class_folders(folder: Path) -> Digits:
    files = [
        (path, digit)
        for digit in range(10)
        for path in sorted((folder / str(digit)).glob("*"))
        if path.suffix.lower() in _PICTURES
    ]
    if not files:
        raise SettingsError(
            f"{folder} holds neither MNIST's IDX files nor folders 0 … 9 with images of digits"
        )
    images = [_grey(path) for path, _ in files]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise SettingsError(
            f"images of digits must have one size; {folder} has {len(shapes)}, such as "
            f"{' and '.join(f'{w} × {h} px' for h, w in sorted(shapes)[:2])}"
        )
    return Digits(images=_squares(np.stack(images)), labels=np.array([d for _, d in files]))


def _grey(path: Path) -> UInt8[np.ndarray, "row col"]:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L"))
    except (OSError, UnidentifiedImageError) as error:
        raise SettingsError(f"cannot read the digit {path}: {error}") from error


def _squares(images: UInt8[np.ndarray, "digit row col"]) -> UInt8[np.ndarray, "digit side side"]:
    """Images with black beside their shorter side."""
    missing = max(images.shape[1:]) - np.array(images.shape[1:])
    return np.pad(images, [(0, 0), *((int(gap) // 2, int(gap - gap // 2)) for gap in missing)])


def _require_all(digits: Digits, *, where: str) -> None:
    lacking = sorted(set(range(10)) - set(digits.labels.tolist()))
    if lacking:
        raise SettingsError(f"{where} has no images of {', '.join(map(str, lacking))}")


def _resized(
    images: UInt8[np.ndarray, "digit side side"], side_px: int
) -> UInt8[np.ndarray, "digit new new"]:
    if side_px < 4:
        raise SettingsError(f"a digit needs at least 4 px a side; got {side_px}")
    own = images.shape[1]
    if own < side_px:
        images = images.repeat(side_px // own, axis=1).repeat(side_px // own, axis=2)
        return _centred(images, side_px)
    step = round(own / side_px)
    return _centred(images, step * side_px)[:, step // 2 :: step, step // 2 :: step]


def _centred(
    images: UInt8[np.ndarray, "digit side side"], side_px: int
) -> UInt8[np.ndarray, "digit new new"]:
    """The middle of images, or images in the middle of black."""
    missing = side_px - images.shape[1]
    if missing >= 0:
        gap = (missing // 2, missing - missing // 2)
        return np.pad(images, [(0, 0), gap, gap])
    first = -missing // 2
    return images[:, first : first + side_px, first : first + side_px]
