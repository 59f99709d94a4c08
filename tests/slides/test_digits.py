"""Digits from scikit-learn, IDX files and folders; sizes, tasks, and what is refused."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gigassl.errors import SettingsError
from gigassl.slides.digits import DIGIT_TASKS, Digits, read_digits, task_labels


def mnist_like(n: int, *, side: int = 28, seed: int = 0) -> Digits:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (n, side, side), dtype=np.uint8)
    return Digits(images=images, labels=np.arange(n) % 10)


def write_idx(folder: Path, part: str, digits: Digits, *, compressed: bool) -> None:
    images = struct.pack(">4B3I", 0, 0, 8, 3, *digits.images.shape) + digits.images.tobytes()
    labels = struct.pack(">4BI", 0, 0, 8, 1, len(digits)) + bytes(digits.labels.tolist())
    for kind, dims, content in (("images", 3, images), ("labels", 1, labels)):
        name = f"{part}-{kind}-idx{dims}-ubyte"
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def test_sklearn_digits_are_split_by_instance() -> None:
    digits = read_digits()
    assert (len(digits.train), len(digits.test)) == (1200, 597)
    assert digits.train.side_px == 8
    assert digits.train.images.max() == 255
    together = np.concatenate([digits.train.images, digits.test.images]).reshape(1797, -1)
    assert len(np.unique(together, axis=0)) == 1797
    # a random split: both parts hold every digit about evenly
    shares = np.bincount(digits.test.labels) / np.bincount(digits.train.labels)
    assert shares.min() > 0.35
    assert shares.max() < 0.65


@pytest.mark.parametrize("compressed", [False, True])
def test_idx_files_give_what_was_written(tmp_path: Path, compressed: bool) -> None:
    train, test = mnist_like(40), mnist_like(20, seed=1)
    write_idx(tmp_path, "train", train, compressed=compressed)
    write_idx(tmp_path, "t10k", test, compressed=compressed)
    found = read_digits(tmp_path)
    assert (found.train.images == train.images).all()
    assert (found.test.labels == test.labels).all()


def test_class_folders_with_and_without_parts(tmp_path: Path) -> None:
    digits = mnist_like(180, side=12)
    for number, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
        for place in (tmp_path / "flat", tmp_path / "parts" / ("train", "test")[number // 90]):
            (place / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[:, 1:-1]).save(place / str(label) / f"{number:03d}.png")
    parts, flat = read_digits(tmp_path / "parts"), read_digits(tmp_path / "flat")
    assert (len(parts.train), len(parts.test)) == (90, 90)
    assert (len(flat.train), len(flat.test)) == (120, 60)
    assert parts.train.side_px == 12
    first = parts.train.images[0]
    assert (first[:, 1:-1] == digits.images[0][:, 1:-1]).all()
    assert not first[:, [0, -1]].any()


def test_mnist_at_9_px_is_every_third_pixel_of_the_middle_27() -> None:
    digits = mnist_like(5)
    small = digits.of_side(9, threshold=63)
    expected = np.where(digits.images[:, 0:27, 0:27] > 63, 255, 0)[:, 1::3, 1::3]
    assert small.images.shape == (5, 9, 9)
    assert (small.images == expected).all()


@pytest.mark.parametrize(("own", "wanted"), [(8, 8), (8, 9), (8, 28), (28, 8), (12, 8), (28, 64)])
def test_any_size_keeps_all_of_a_digit(own: int, wanted: int) -> None:
    image = np.zeros((1, own, own), np.uint8)
    image[0, 1:-1, 1:-1] = 200
    resized = Digits(images=image, labels=np.array([0])).of_side(wanted).images[0]
    assert resized.shape == (wanted, wanted)
    assert set(np.unique(resized)) == {0, 200}
    rows = np.flatnonzero(resized.any(axis=1))
    assert rows[0] > 0 or own > wanted
    # as large in the new image as whole factors allow
    assert len(rows) >= (own - 2) / own * wanted * 0.7


def test_tasks_are_what_they_are_called() -> None:
    digits = np.arange(10)
    assert (task_labels(digits, "parity") == digits % 2).all()
    assert (task_labels(digits, "at-least-5") == (digits >= 5)).all()
    assert (task_labels(digits, "mod-3") == digits % 3).all()
    assert np.flatnonzero(task_labels(digits, "loop")).tolist() == [0, 6, 8, 9]
    codes = {digit: tuple(DIGIT_TASKS[task][digit] for task in DIGIT_TASKS) for digit in range(10)}
    assert len(set(codes.values())) == 10
    with pytest.raises(SettingsError, match="did you mean 'parity'"):
        task_labels(digits, "paritty")


def test_what_is_no_digits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such folder of digits"):
        read_digits(tmp_path / "absent")
    with pytest.raises(SettingsError, match="neither MNIST's IDX files nor folders"):
        read_digits(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"nothing")
    with pytest.raises(SettingsError, match="is no IDX file of 3 dimensions"):
        read_digits(tmp_path)
    write_idx(tmp_path, "train", mnist_like(9), compressed=False)
    write_idx(tmp_path, "t10k", mnist_like(10), compressed=False)
    with pytest.raises(SettingsError, match=r"\(train\) has no images of 9"):
        read_digits(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(SettingsError, match="lacks t10k-labels-idx1-ubyte"):
        read_digits(tmp_path)
