"""Other tools' slide vectors: each published layout as its tool writes it, and hostile files."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gigassl.errors import SettingsError, SlideError
from gigassl.vectors.foreign_vectors import foreign_files, read_foreign

NAMES = ["TCGA-AA-0001-01Z-00-DX1.0A1B", "TCGA-AA-0002-01Z-00-DX1.2C3D", "slide 7"]
PROTOCOLS = (2, 3, 4, 5)


def vectors(dtype: Any = np.float32) -> Any:
    return np.random.default_rng(0).normal(size=(3, 5)).astype(dtype)


@pytest.mark.parametrize("dtype", [object, str, "S40"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, ">f8"])
def test_giga_ssl_writes_two_arrays(tmp_path: Path, dtype: Any, kind: Any) -> None:
    np.save(tmp_path / "embeddings.npy", vectors(kind))
    np.save(tmp_path / "ids.npy", np.array(NAMES, dtype=dtype))
    held = read_foreign(tmp_path / "embeddings.npy")
    assert (held.tool, list(held.names)) == ("giga-ssl", NAMES)
    np.testing.assert_array_equal(held.vectors, vectors(kind))
    assert foreign_files([tmp_path]) == [tmp_path / "embeddings.npy"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "names", [NAMES, np.array(NAMES), np.array(NAMES, dtype=object), [np.str_(n) for n in NAMES]]
)
@pytest.mark.parametrize("kind", [np.float32, ">f4", np.float64, "list"])
def test_titan_writes_a_pickle(tmp_path: Path, protocol: int, names: Any, kind: Any) -> None:
    made = list(vectors()) if kind == "list" else vectors(kind)
    content = {"embeddings": made, "filenames": names}
    (tmp_path / "titan.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    held = read_foreign(tmp_path / "titan.pkl")
    assert (held.tool, held.encoder, list(held.names)) == ("titan", "titan", NAMES)
    np.testing.assert_allclose(held.vectors, vectors(), rtol=1e-6)


def test_a_column_major_pickle_keeps_its_rows(tmp_path: Path) -> None:
    content = {"embeddings": np.asfortranarray(vectors()), "filenames": NAMES}
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(content))
    np.testing.assert_array_equal(read_foreign(tmp_path / "t.pkl").vectors, vectors())


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("where", ["embeddings", "filenames", "other"])
def test_a_hostile_pickle_is_refused_by_name_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"embeddings": vectors(), "filenames": NAMES, where: Calls(os.system, "touch trace")}
    path = tmp_path / "t.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(SettingsError, match=r"names 'posix\.system'.*nothing of the file was run"):
        read_foreign(path)
    assert not (tmp_path / "trace").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "trace").exists()  # so the trap works


def test_hostile_ids_are_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "embeddings.npy", vectors())
    np.save(tmp_path / "ids.npy", np.array([Calls(os.system, "touch trace")] * 3))
    with pytest.raises(SettingsError, match=r"ids\.npy names 'posix\.system'.*was run"):
        read_foreign(tmp_path / "embeddings.npy")
    assert not (tmp_path / "trace").exists()


PICKLES: dict[str, tuple[Any, str]] = {
    "a list": ([1], "a list stands where a dict belongs"),
    "no names": ({"embeddings": vectors()}, "lacks filenames"),
    "integers": ({"embeddings": vectors().astype(int), "filenames": NAMES}, "not of float16 or"),
    "flat": ({"embeddings": vectors()[0], "filenames": NAMES}, r"shape \(5,\)"),
    "ragged": ({"embeddings": [vectors()[0], vectors()[0, :2]], "filenames": NAMES}, "widths"),
    "fewer names": ({"embeddings": vectors(), "filenames": NAMES[:2]}, "3 vectors and 2 filen"),
    "numbers as names": ({"embeddings": vectors(), "filenames": [1, 2, 3]}, "int stands where"),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_another_pickle_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    content, reason = PICKLES[kind]
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(SettingsError, match=reason):
        read_foreign(tmp_path / "t.pkl")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02R.", b"\x80\x04."])
def test_no_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.pkl").write_bytes(content)
    with pytest.raises(SettingsError, match="no pickled dictionary"):
        read_foreign(tmp_path / "t.pkl")


@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_trident_writes_a_file_a_slide(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "slide_features_titan" / f"{NAMES[0]}.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        data = file.create_dataset("features", data=vectors()[0].reshape(shape))
        data.attrs.update({"name": NAMES[0], "savetodir": "x"})
    held = read_foreign(path)
    assert (held.tool, held.encoder, held.names) == ("trident", "titan", (NAMES[0],))
    with h5py.File(path, "a") as file:
        file["features"].attrs["encoder"] = "prism"
    assert read_foreign(path).encoder == "prism"
    np.testing.assert_array_equal(held.vectors, vectors()[:1])


@pytest.mark.parametrize("grouped", [False, True])
def test_cobra_writes_a_file_a_cohort(tmp_path: Path, grouped: bool) -> None:
    path = tmp_path / "cobra-feats.h5"
    with h5py.File(path, "w") as file:
        file.attrs["extractor"] = "COBRAII"
        for name, vector in zip(NAMES, vectors(), strict=True):
            file.create_dataset(f"{name}/feats" if grouped else name, data=vector)
    held = read_foreign(path)
    assert (held.tool, held.encoder, set(held.names)) == ("cobra", "COBRAII", set(NAMES))
    np.testing.assert_array_equal(held.vectors[held.names.index(NAMES[1])], vectors()[1])


def test_a_bag_is_pointed_to_embed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"], file["coords"] = vectors(), np.zeros((3, 2), int)
    with pytest.raises(SettingsError, match=r"holds 3 tiles.*gigassl embed"):
        read_foreign(tmp_path / "a.h5")


def test_a_damaged_h5_is_a_failure_of_its_slide(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\nbroken")
    with pytest.raises(SlideError, match="no readable HDF5"):
        read_foreign(tmp_path / "a.h5")


def test_numbered_columns_are_the_vector_and_others_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("slide_id,case_id,age,f10,f2,f1\na.svs,P1,50,3,2,1\n007,P2,60,6,5,4\n")
    held = read_foreign(path)
    assert (held.names, held.patient_ids) == (("a.svs", "007"), ("P1", "P2"))
    np.testing.assert_array_equal(held.vectors, [[1, 2, 3], [4, 5, 6]])
    assert held.notes == ("t.csv: 1 columns are no part of the vectors: age",)


def test_columns_with_names_of_their_own_all_count(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("slide_id\tarea\tdensity\ns1\t1.5\t2\ns2\t3\t\n")
    held = read_foreign(tmp_path / "t.tsv")
    np.testing.assert_array_equal(held.vectors, [[1.5, 2], [3, np.nan]])


@pytest.mark.parametrize("fixed", [False, True])
def test_a_column_of_lists_is_the_vector(tmp_path: Path, fixed: bool) -> None:
    kind = pa.list_(pa.float32(), 5) if fixed else pa.list_(pa.float32())
    data = pa.table({"slide_id": NAMES, "emb": pa.array(vectors().tolist(), type=kind)})
    pq.write_table(data, tmp_path / "t.parquet")
    held = read_foreign(tmp_path / "t.parquet")
    np.testing.assert_allclose(held.vectors, vectors(), rtol=1e-6)


TABLES: dict[str, tuple[str, str]] = {
    "no names": ("a,b\n1,2\n", "no column of slide names"),
    "no numbers": ("slide_id,b\ns,x\n", "no numeric columns"),
    "an empty name": ("slide_id,f0,f1\n,1,2\n", "row 1: slide_id is not filled in"),
    "only a heading": ("slide_id,f0,f1\n", "no numeric columns|no vectors"),
    "nothing": ("", "no readable table"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_an_unusable_table_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    content, reason = TABLES[kind]
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(SettingsError, match=reason):
        read_foreign(tmp_path / "t.csv")


def test_npy_without_its_names_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", vectors())
    with pytest.raises(SettingsError, match=r"no ids\.npy beside it"):
        read_foreign(tmp_path / "x.npy")
    np.save(tmp_path / "ids.npy", np.array(NAMES[:2]))
    with pytest.raises(SettingsError, match=r"3 vectors and ids\.npy 2 names"):
        read_foreign(tmp_path / "x.npy")
    np.save(tmp_path / "ids.npy", np.arange(3))
    with pytest.raises(SettingsError, match="not of text"):
        read_foreign(tmp_path / "x.npy")


def test_what_is_not_there_or_not_known_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        foreign_files([tmp_path / "x.npy"])
    with pytest.raises(SettingsError, match=r"holds no \.h5 or \.npy"):
        foreign_files([tmp_path])
    (tmp_path / "a.docx").touch()
    with pytest.raises(SettingsError, match=r"a\.docx is no known kind"):
        foreign_files([tmp_path / "a.docx"])


def test_slide_names_that_are_no_text(tmp_path: Path) -> None:
    names = pa.array([b"\xc6\x28"], pa.binary())
    # a view of bytes as text is not looked at
    texts = pa.Array.from_buffers(pa.string(), 1, names.buffers())
    path = tmp_path / "theirs.parquet"
    pq.write_table(pa.table({"slide_id": texts, "f0": [0.5], "f1": [1.0]}), path)
    with pytest.raises(SettingsError, match=r"theirs\.parquet is no readable Parquet file"):
        read_foreign(path)
