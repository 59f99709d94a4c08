"""Several sets of labelled images: names of tasks, numbers of classes, what is refused."""

from pathlib import Path

import pytest

from gigassl.errors import SettingsError
from gigassl.tiles.labelled_tasks import LabelledTasks, read_tasks
from tests.tiles.labelled_folders import class_folders


def test_files_of_all_tasks_have_their_task_class_and_group(tmp_path: Path) -> None:
    first = class_folders(tmp_path / "lymph", {"normal": 3, "tumour": 2}, n_groups=2)
    second = class_folders(tmp_path / "tissue", {"fat": 1, "mucus": 2, "muscle": 1}, n_groups=2)
    tasks = read_tasks([first, second], group_pattern=r"g\d")
    labels = tasks.labels
    assert labels.tasks == ("lymph", "tissue")
    assert labels.classes == (("normal", "tumour"), ("fat", "mucus", "muscle"))
    assert labels.task.tolist() == [0] * 5 + [1] * 4
    assert labels.label.tolist() == [0, 0, 0, 1, 1, 0, 1, 1, 2]
    assert labels.stratum.tolist() == [0, 0, 0, 1, 1, 2, 3, 3, 4]
    assert labels.named(3) == "class 'mucus' of 'tissue'"
    names, paths, groups = zip(*tasks.files, strict=True)
    assert names[:2] == ("lymph/normal/g0_0.png", "lymph/normal/g0_2.png")
    assert all(path.is_file() for path in paths)
    assert groups == ("g0", "g0", "g1", "g0", "g1", "g0", "g0", "g1", "g0")
    few = labels.some([8, 0])
    assert (few.task.tolist(), few.label.tolist(), few.classes) == ([1, 0], [2, 0], labels.classes)


def test_tables_are_tasks_and_may_share_their_images(tmp_path: Path) -> None:
    class_folders(tmp_path / "pixels", {"all": 4})
    rows = [f"pixels/all/g{k}_{k}.png" for k in range(4)]
    for name, kinds in (("parity", "abab"), ("size", "ccdd")):
        lines = [f"{row},{kinds[k]},patient{k}" for k, row in enumerate(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label,patient", *lines]))
    tasks = read_tasks([tmp_path / "parity.csv", tmp_path / "size.csv"])
    assert tasks.names == ("parity", "size")
    assert tasks.labels.classes == (("a", "b"), ("c", "d"))
    assert [group for _, _, group in tasks.files] == [f"patient{k}" for k in range(4)] * 2
    assert len({path for _, path, _ in tasks.files}) == 4


def test_folders_of_one_name_are_called_by_those_around_them(tmp_path: Path) -> None:
    for place in ("one", "two"):
        class_folders(tmp_path / place / "train", {"a": 1, "b": 1}, n_groups=1)
    tasks = read_tasks([tmp_path / "one" / "train", tmp_path / "two" / "train"])
    assert tasks.names == ("one/train", "two/train")


def test_a_folder_twice_or_none_or_one_without_labels_is_refused(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "lymph", {"normal": 2, "tumour": 2})
    with pytest.raises(SettingsError, match="given more than once"):
        read_tasks([folder, folder / ".." / "lymph"])
    with pytest.raises(SettingsError, match="no task is given"):
        read_tasks([])
    with pytest.raises(SettingsError, match="neither class folders with images"):
        read_tasks([folder / "normal"])
    images = read_tasks([folder]).images
    with pytest.raises(SettingsError, match="two tasks are called 'x'"):
        LabelledTasks(names=("x", "x"), images=images * 2)
