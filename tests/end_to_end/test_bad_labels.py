"""Labels and splits that cannot be used: one sentence each, before any training starts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.table import save_table, table_from_rows
from tests.end_to_end.conftest import Run
from tests.vectors.test_table import PROVENANCE, make_row

N = 12


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [make_row(f"s{i:02}", embedding=l2_normalised(rng.standard_normal(4))) for i in range(N)]
    rows = [replace(row, patient_id=f"p{i // 2}") for i, row in enumerate(rows)]
    save_table(table_from_rows(rows, provenance=PROVENANCE), tmp_path / "vectors.parquet")
    return tmp_path / "vectors.parquet"


def table(cells: str, *, names: str = "s") -> str:
    return "\n".join(["slide_id,grade", *(f"{names}{i:02},{c}" for i, c in enumerate(cells))])


SURVIVAL = ("--time", "grade", "--event", "dead")
GOOD = table("xxyyxxyyxxyy")


def survival(times: list[int], events: list[int]) -> str:
    pairs = zip(times, events, strict=True)
    lines = [f"s{i:02},{time},{dead}" for i, (time, dead) in enumerate(pairs)]
    return "\n".join(["slide_id,grade,dead", *lines])


@pytest.mark.parametrize(
    ("labels", "options", "sentence"),
    [
        (table("xyxyxyxyxyxy", names="q"), (), "labels none of the 12 slides: its slides are"),
        (table("xxxxxxxxxxxx"), (), "all 12 slides have the same label (x)"),
        (table("xxyyyyyyyyyy"), (), "class 'x' has 1 patient; at least 2 are needed"),
        (table("xxyyzzxxyyxx"), (), "class 'z' has 1 patient"),
        (f"{GOOD}\ns00,y", (), "slide 's00' has two labels, 'x' and 'y'"),
        (table("555555555555"), ("--kind", "regression"), "all 12 slides have the value 5"),
        (survival([0, *[5] * 11], [1] * 12), SURVIVAL, "slide 's00' has time 0; times under"),
        (survival([-3, *[5] * 11], [1] * 12), SURVIVAL, "slide 's00' has time -3"),
        (survival([*range(1, 13)], [0] * 12), SURVIVAL, "all 12 slides are censored"),
        (GOOD, ("--folds", 9), "9 folds need at least 9 patients"),
        (GOOD, ("--train-sizes", "50"), "50 slides are wanted, but the training set has"),
        (GOOD, ("--train-sizes", "many"), "unknown training size 'many'"),
        (GOOD, ("--scheme", "leave-site-out"), "12 of 12 slides have no site, first 's00'"),
    ],
)
def test_labels(
    vectors: Path, run: Run, labels: str, options: tuple[str | int, ...], sentence: str
) -> None:
    path = vectors.with_name("clinical.csv")
    path.write_text(labels)
    target = () if "--time" in options else ("--target", "grade")
    refused(vectors, run, *target, *options, sentence=sentence)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("train,test\ns00,s01\ns02,s00\n", "split_0.csv names 1 slides twice: 's00'"),
        ("train,test\ns00,\ns02,\n", "split_0.csv has an empty test set"),
        ("train,test\n,s00\n,s02\n", "split_0.csv has an empty train set"),
        ("train,test\ns00,q1\ns02,q2\n", "none of its 2 test slides, such as 'q1', has both"),
    ],
)
def test_splits(vectors: Path, run: Run, rows: str, sentence: str) -> None:
    vectors.with_name("clinical.csv").write_text(GOOD)
    folder = vectors.parent / "splits"
    folder.mkdir()
    (folder / "split_0.csv").write_text(rows)
    refused(vectors, run, "--target", "grade", "--splits", folder, sentence=sentence)


def test_slides_that_only_one_side_knows_are_named_and_counted(vectors: Path, run: Run) -> None:
    labels = vectors.with_name("clinical.csv")
    labels.write_text(f"{GOOD.replace('s03,y', 's03,')}\nq1,x\nq2,y")
    done = run("probe", vectors, "--labels", labels, "--target", "grade", "--folds", 2, "--preset",
               "giga-ssl", "-o", vectors.with_name("p.parquet"))  # fmt: skip
    assert done.code == 0, done.err
    assert "2 labelled slides have no vector and are left out: 'q1', 'q2'" in done.out
    assert "1 slides with a vector have no label and are left out: 's03'" in done.out


def refused(vectors: Path, run: Run, *options: object, sentence: str) -> None:
    out = vectors.with_name("p.parquet")
    done = run("probe", vectors, "--labels", vectors.with_name("clinical.csv"), *options, "-o", out)
    assert done.code == 2
    assert sentence in done.err
    assert done.err.count("\n") == 1
    assert not out.exists()
