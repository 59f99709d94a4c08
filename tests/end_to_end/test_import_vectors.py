"""``import-vectors`` through the command line."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gigassl.vectors.table import open_table
from tests.end_to_end.conftest import Run

NAMES = ["TCGA-AA-0002-01Z-00-DX1.2C3D", "TCGA-AA-0001-01Z-00-DX1.0A1B.svs", "s7"]


def giga_ssl(folder: Path, names: list[str], vectors: Any) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "embeddings.npy", vectors)
    np.save(folder / "ids.npy", np.array(names, dtype=object))
    return folder


def vectors(n: int = 3) -> Any:
    return np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)


def test_vectors_become_a_table_of_ours(run: Run, tmp_path: Path) -> None:
    source, out = giga_ssl(tmp_path / "s", NAMES, vectors()), tmp_path / "v.parquet"
    (tmp_path / "c.csv").write_text("slide_id,patient_id\ns7,P7\n")
    (tmp_path / "seen.csv").write_text("slide_id\ns7\n")
    done = run(
        "import-vectors", source, "-o", out, "--encoder", "giga-ssl", "--cohort",
        tmp_path / "c.csv", "--pretrained-on", tmp_path / "seen.csv",
    )  # fmt: skip
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert "3 slides of 3 patients, 5-d, from giga-ssl (giga-ssl)" in done.out
    table = open_table(out)
    assert table.slide_ids == [NAMES[1].removesuffix(".svs"), NAMES[0], "s7"]
    assert table.patient_ids == ["TCGA-AA-0001", "TCGA-AA-0002", "P7"]
    assert [row.patient_rule for row in table.rows()] == ["tcga-barcode"] * 2 + ["column"]
    assert table.data["n_tiles"].null_count == 3
    lengths = table.data["length_before"].to_numpy()
    np.testing.assert_allclose(table.embeddings * lengths[:, None], vectors()[[1, 0, 2]], rtol=1e-5)
    assert table.provenance["pretrained_on"]["slide_encoder"]["slides"] == ["s7"]
    again = tmp_path / "again.parquet"
    run("import-vectors", source, "-o", again, "--encoder", "giga-ssl",
        "--cohort", tmp_path / "c.csv", "--pretrained-on", tmp_path / "seen.csv")  # fmt: skip
    assert again.read_bytes() == out.read_bytes()
    assert '"tiles": "not known"' in run("inspect", out, "--json").out


def test_a_zero_or_nan_vector_is_a_failure(run: Run, tmp_path: Path) -> None:
    made = vectors()
    made[0], made[1, 2] = 0, np.nan
    out = tmp_path / "v.parquet"
    done = run("import-vectors", giga_ssl(tmp_path / "s", NAMES, made), "-o", out, "--json")
    assert done.code == 1
    found = json.loads(done.out)
    assert (found["rows"], len(found["failures"])) == (1, 2)
    assert "length 0" in (tmp_path / "v.failures.csv").read_text()
    assert any("--encoder" in note for note in found["notes"])


def test_repeats_are_merged_unless_they_differ(run: Run, tmp_path: Path) -> None:
    made = vectors()[[0, 1, 0]]
    source = giga_ssl(tmp_path / "s", [NAMES[0], NAMES[1], f"{NAMES[0]}.svs"], made)
    done = run("import-vectors", source, "-o", tmp_path / "v.parquet")
    assert (done.code, "1 identical repeats left out" in done.out) == (0, True)
    made[2, 0] += 1
    giga_ssl(tmp_path / "s", [NAMES[0], NAMES[1], NAMES[0]], made)
    done = run("import-vectors", source, "-o", tmp_path / "w.parquet")
    assert done.code == 2
    assert f"'{NAMES[0]}' stands there twice with different vectors" in done.err
    assert not (tmp_path / "w.parquet").exists()


def test_files_of_a_folder_must_share_encoder_and_width(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "slide_features_titan"
    folder.mkdir()
    for name, vector in zip("ab", vectors(2), strict=True):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file.create_dataset("features", data=vector).attrs["encoder"] = "titan"
    (folder / "c.h5").write_bytes(b"broken")
    done = run("import-vectors", folder, "-o", tmp_path / "v.parquet", "--json")
    assert (done.code, json.loads(done.out)["rows"]) == (1, 2)
    with h5py.File(folder / "b.h5", "a") as file:
        file["features"].attrs["encoder"] = "prism"
    done = run("import-vectors", folder, "-o", tmp_path / "w.parquet")
    assert (done.code, "different encoders: 'titan' (a.h5) and 'prism'" in done.err) == (2, True)
    with h5py.File(folder / "b.h5", "w") as file:
        file["features"] = np.ones(3, np.float32)
    done = run("import-vectors", folder, "-o", tmp_path / "w.parquet", "--encoder", "x")
    assert (done.code, "of 3 numbers, 'a' of 5" in done.err) == (2, True)


def test_a_wide_table_is_refused_before_anything_is_written(run: Run, tmp_path: Path) -> None:
    assert run("import-vectors", tmp_path / "no.csv", "-o", tmp_path / "v.parquet").code == 2
    source = giga_ssl(tmp_path / "s", NAMES, vectors())
    done = run("import-vectors", source, "-o", tmp_path / "v.csv")
    assert (done.code, "ends in .parquet" in done.err) == (2, True)
    done = run("import-vectors", source, "-o", tmp_path / "v.parquet", "--cohort", "absent.csv")
    assert (done.code, "no such table: absent.csv" in done.err) == (2, True)
