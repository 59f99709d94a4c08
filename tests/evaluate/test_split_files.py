from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.evaluate.split import Split
from gigassl.evaluate.split_files import read_split_lists, read_splits, write_splits
from gigassl.evaluate.splits import SplitSettings, make_splits
from gigassl.evaluate.task import Kind
from tests.evaluate.examples import small_task
from tests.shared_data import SHARED, needs_shared


def assert_equal(read: tuple[Split, ...], made: tuple[Split, ...]) -> None:
    assert len(read) == len(made)
    for a, b in zip(read, made, strict=True):
        assert (a.scheme, a.train_size, a.draw, a.fold) == (b.scheme, b.train_size, b.draw, b.fold)
        for side in ("train", "val", "test"):
            assert getattr(a, side).tolist() == getattr(b, side).tolist()


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["classification", "regression", "survival"]),
    scheme=st.sampled_from(["patient-kfold", "slide-kfold", "holdout", "leave-site-out"]),
    validation=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 99),
)
def test_written_splits_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, kind: Kind, scheme: str, validation: float, seed: int
) -> None:
    folder, task = tmp_path_factory.mktemp("run") / "vectors.parquet.splits", small_task(kind, n=32)
    wanted = SplitSettings(
        scheme=scheme, folds=3, repeats=2, draws=2, seed=seed, validation=validation,  # type: ignore[arg-type]
        train_sizes=("8", "50%", "full"),
    )  # fmt: skip
    made = make_splits(task, wanted)
    write_splits(folder, task, made)
    assert_equal(read_splits(folder, task), made)


def test_equal_splits_give_equal_bytes_in_the_layout_of_patho_bench(tmp_path: Path) -> None:
    task = small_task(n=8)
    splits = make_splits(task, SplitSettings(folds=2))
    for name in ("a", "b"):
        write_splits(tmp_path / name, task, splits)
    text = (tmp_path / "a" / "splits.tsv").read_text()
    assert text == (tmp_path / "b" / "splits.tsv").read_text()
    assert text.splitlines()[0].split("\t") == ["case_id", "slide_id", "grade", "fold_0", "fold_1"]
    # without the index the table is what Patho-Bench would make of it
    published = read_splits(tmp_path / "a" / "splits.tsv", task)
    assert [s.scheme for s in published] == ["published:patho-bench"] * 2
    assert [s.test.tolist() for s in published] == [s.test.tolist() for s in splits]


def listed(folder: Path, name: str, rows: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(rows)
    return folder


def test_lists_of_giga_ssl_have_folders_of_sizes(tmp_path: Path) -> None:
    rows = "train,test\nslide-00,slide-08\nslide-02.svs,\n,\nslide-04,\n"
    for size in ("full", "25p", "100", "50"):
        for fold in (10, 2):
            listed(tmp_path / "lung" / size, f"split_{fold}.csv", rows)
    splits = read_splits(tmp_path / "lung", small_task())
    assert [(s.train_size, s.fold) for s in splits] == [
        ("50", 2), ("50", 10), ("100", 2), ("100", 10), ("25%", 2), ("25%", 10), ("full", 2),
        ("full", 10),
    ]  # fmt: skip
    assert {s.scheme for s in splits} == {"published:giga-ssl"}
    assert splits[0].train.tolist() == [0, 2, 4]
    assert splits[0].test.tolist() == [8]
    assert [s.train_size for s in read_splits(tmp_path / "lung" / "25p", small_task())] == [
        "25%"
    ] * 2


def test_one_folder_of_lists_may_have_validation_slides(tmp_path: Path) -> None:
    listed(tmp_path, "split_0.csv", "train,test,val\nslide-00,slide-08,slide-03\nslide-01,,\n")
    (split,) = read_splits(tmp_path, small_task())
    assert (split.train_size, split.val.tolist()) == ("full", [3])


def test_lists_of_clam_are_understood(tmp_path: Path) -> None:
    listed(
        tmp_path, "splits_1.csv", ",train,val,test\n0,slide-00,slide-03,slide-08\n1,slide-01,,\n"
    )
    listed(tmp_path, "splits_1_bool.csv", ",train,val,test\nslide-00,True,False,False\n")
    listed(tmp_path, "splits_1_descriptor.csv", ",train,val,test\nbenign,1,0,0\n")
    (split,) = read_splits(tmp_path, small_task())
    assert (split.scheme, split.fold, split.train.tolist()) == ("published:clam", 1, [0, 1])


def test_tables_of_patho_bench_leave_slides_unused(tmp_path: Path) -> None:
    rows = [
        "case_id\tslide_id\tgrade\tfold_0\tfold_1",
        "p\tslide-00\tx\ttrain\ttest", "p\tslide-01\tx\t-1\t-1", "p\tslide-02\ty\ttest\ttrain",
    ]  # fmt: skip
    listed(tmp_path, "k=all.tsv", "\n".join(rows))
    splits = read_splits(tmp_path, small_task())
    assert [(s.train.tolist(), s.test.tolist()) for s in splits] == [([0], [2]), ([2], [0])]


@pytest.mark.parametrize(
    ("name", "rows", "sentence"),
    [
        ("split_0.csv", "train,test\na,b\nc,a\n", r"split_0.csv names 1 slides twice: 'a'"),
        ("split_0.csv", "train,test\na,b\na,\n", r"split_0.csv names 1 slides twice: 'a'"),
        ("split_0.csv", "train,test\na,\n", r"split_0.csv has an empty test set"),
        ("split_0.csv", "train,valid\na,b\n", "needs the columns train and test; it has: train"),
        ("split_0.csv", "", "it has: nothing"),
        ("split_0.csv", "train,test\nslide-00,b\n", "none of its 1 test slides, such as 'b'"),
        ("folds.tsv", "slide_id\tfold_0\nslide-00\tlearn\n", "expected train, val, test or -1; go"),
        ("folds.tsv", "slide_id\tfold_0\nx\ttrain\nx\ttest\n", "column fold_0 names 1 slides twi"),
        ("folds.tsv", "slide_id\tlabel\nx\ttrain\n", "and columns fold_0 … that say train"),
        ("notes.txt", "nothing", "holds no splits; expected split_0.csv"),
        ("splits.csv", "a,b\n1,2\n", "no such table of labels"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, name: str, rows: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        read_splits(listed(tmp_path / "splits", name, rows), small_task())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such folder or file of splits"):
        read_split_lists(tmp_path / "none")


@needs_shared
def test_published_lists_hold_what_the_specification_counts() -> None:
    root = SHARED / "data" / "labels" / "giga-ssl" / "splitdirs"
    lists = read_split_lists(root / "tnbc")
    assert [s.train_size for s in lists[::10]] == ["50", "100", "250", "25%", "full"]
    assert all(len(s.test) == 60 for s in lists)
    sizes = {len(s.train) for s in read_split_lists(root / "kidney" / "full")}
    assert sizes == {842}
    assert np.ptp([len(s.test) for s in read_split_lists(root / "kidney" / "full")]) == 0
