"""No file runs code, and none leads to another: pickles, paths and links that files hold."""

import ast
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from gigassl.bags.bag import open_bag
from gigassl.bags.pca_pickle import read_pca
from gigassl.errors import GigasslError
from gigassl.evaluate.frozen import load_frozen
from gigassl.evaluate.mil.saved import load_mil_model
from gigassl.slides.cohort import read_cohort
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.keras_files import read_keras
from gigassl.tiles.weights import load_checkpoint
from gigassl.vectors.foreign_vectors import read_foreign
from gigassl.vectors.importing import read_published
from gigassl.vectors.slide_model import load_slide_model
from tests.faults.launcher import REPO

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((REPO / "gigassl").rglob("*.py")):
        yield path.relative_to(REPO), ast.parse(path.read_text(encoding="utf-8"))


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def test_no_module_can_unpickle() -> None:
    """Pickle is named once, for its error; nothing of it is called."""
    named: list[str] = []
    for path, tree in trees():
        for node in ast.walk(tree):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            named += [f"{path}: {n}" for n in names if n.split(".")[0] in UNSAFE_MODULES]
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in UNSAFE_MODULES:
                assert node.attr == "UnpicklingError", path
    assert named == ["gigassl/tiles/weights.py: pickle"]


def test_every_load_says_that_it_takes_data_only() -> None:
    wrong = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            said = {k.arg: ast.unparse(k.value) for k in node.keywords}
            name = called(node)
            if name == "torch.load" and said.get("weights_only") != "True":
                wrong.append(f"{path}:{node.lineno} {name}")
            # numpy's own default is False
            if name.startswith("np.") and said.get("allow_pickle", "False") != "False":
                wrong.append(f"{path}:{node.lineno} {name}")
            if name in UNSAFE_CALLS or said.get("trust_remote_code", "False") != "False":
                wrong.append(f"{path}:{node.lineno} {name}")
            if said.get("shell", "False") != "False":
                wrong.append(f"{path}:{node.lineno} {name}")
    assert wrong == []


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


def as_torch(evil: Evil, path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(2)}, "extra": evil}, path)


def as_old_torch(evil: Evil, path: Path) -> None:
    torch.save({"a": evil}, path, _use_new_zipfile_serialization=False)


def as_pickle(evil: Evil, path: Path) -> None:
    path.write_bytes(
        pickle.dumps({"embeddings": np.zeros((2, 4)), "filenames": [evil]}, protocol=2)
    )


def as_npy(evil: Evil, path: Path) -> None:
    np.save(path, np.array([evil, evil], dtype=object), allow_pickle=True)


def as_npz(evil: Evil, path: Path) -> None:
    content = BytesIO()
    np.save(content, np.array([evil], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("slide_ids.npy", content.getvalue())


READERS: dict[str, tuple[str, Callable[[Evil, Path], None], Callable[[Path], object]]] = {
    "checkpoint": ("m.pth", as_torch, load_checkpoint),
    "old checkpoint": ("m.pt", as_old_torch, load_checkpoint),
    "bare pickle as checkpoint": ("m.ckpt", as_pickle, load_checkpoint),
    "pickle called safetensors": ("m.safetensors", as_torch, load_checkpoint),
    "tile encoder": ("m.pth", as_torch, lambda p: load_encoder(f"{p}::resnet18", device="cpu")),
    "slide encoder": ("m.pth", as_torch, load_slide_model),
    "slide encoder, safetensors": ("m.safetensors", as_pickle, load_slide_model),
    "published slide encoder": ("m.pth", as_torch, read_published),
    "frozen probe": ("m.safetensors", as_torch, load_frozen),
    "MIL model": ("m.safetensors", as_torch, load_mil_model),
    "slide vectors, pickle": ("v.pkl", as_pickle, read_foreign),
    "slide vectors, array": ("v.npy", as_npy, read_foreign),
    "PCA": ("pca.pkl", as_pickle, read_pca),
    "bag": ("b.h5", as_pickle, open_bag),
    "Keras": ("k.h5", as_pickle, read_keras),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_pickle_in_any_file_is_never_run(kind: str, tmp_path: Path) -> None:
    name, write, read = READERS[kind]
    mark = tmp_path / "mark"
    write(Evil(mark), tmp_path / name)
    with pytest.raises(GigasslError):
        read(tmp_path / name)
    assert not mark.exists()


def test_names_of_an_array_are_parsed_and_never_run(tmp_path: Path) -> None:
    np.save(tmp_path / "embeddings.npy", np.zeros((2, 4), np.float32))
    as_npy(Evil(tmp_path / "mark"), tmp_path / "ids.npy")
    with pytest.raises(GigasslError):
        read_foreign(tmp_path / "embeddings.npy")
    assert not (tmp_path / "mark").exists()


def test_the_index_of_tiles_holds_no_pickle(tmp_path: Path) -> None:
    from gigassl.tiles.pretrain.index import load_index

    as_npz(Evil(tmp_path / "mark"), tmp_path / "index.npz")
    with pytest.raises(GigasslError):
        load_index(tmp_path / "index.npz")
    assert not (tmp_path / "mark").exists()


def test_unpickling_it_would_have_made_the_file(tmp_path: Path) -> None:
    """The tests above could fail: what they write is harmful."""
    as_pickle(Evil(tmp_path / "mark"), tmp_path / "x.pkl")
    pickle.loads((tmp_path / "x.pkl").read_bytes())
    assert (tmp_path / "mark").exists()


def test_code_in_a_keras_file_is_listed_and_never_run(tmp_path: Path) -> None:
    path = tmp_path / "k.h5"
    layer = '{"class_name": "Lambda", "config": {"name": "l", "function": ["evil", null, null]}}'
    config = f'{{"class_name": "Sequential", "config": {{"layers": [{layer}]}}}}'
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = config
        file.create_group("model_weights")
    before = set(sys.modules)
    with pytest.raises(GigasslError):
        load_encoder(str(path), device="cpu")
    assert not {name for name in set(sys.modules) - before if "keras" in name.lower()
                and not name.startswith("gigassl")}  # fmt: skip


@pytest.mark.parametrize("slide_id", ["../../evil", "/etc/evil", "a/../../evil"])
def test_a_slide_id_is_a_name_and_no_path(slide_id: str, tmp_path: Path) -> None:
    """What is written for a slide carries its id in its name."""
    (tmp_path / "s.svs").write_bytes(b"x")
    table = tmp_path / "c.csv"
    table.write_text(f"slide_id,path\n{slide_id},s.svs\n")
    (slide,) = read_cohort(table).slides
    assert slide.slide_id == "evil"


@pytest.mark.parametrize("slide_id", ["..", "/", ".", "a\x00b"])
def test_a_slide_id_that_is_no_name_is_refused(slide_id: str, tmp_path: Path) -> None:
    (tmp_path / "s.svs").write_bytes(b"x")
    table = tmp_path / "c.csv"
    table.write_text(f"slide_id,path\n{slide_id},s.svs\n")
    with pytest.raises(GigasslError, match="names no slide"):
        read_cohort(table)
