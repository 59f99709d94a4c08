"""The rules of the house that no linter knows."""

import ast
import importlib
import inspect
import re
import subprocess
import sys

import pytest

import gigassl
from tests.shared_data import REPO_ROOT

SOURCES = sorted((REPO_ROOT / "gigassl").rglob("*.py"))
HEAVY = (
    "torch",
    "timm",
    "sklearn",
    "openslide",
    "cv2",
    "pyarrow",
    "faiss",
    "numpy",
    "h5py",
    "pandas",
    "lightly",
    "lightning_fabric",
    "matplotlib",
    "tensorboard",
)


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("statement", ["import gigassl", "import gigassl.cli.main"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    assert not loaded_by(statement) & set(HEAVY)


def test_that_guard_can_fail() -> None:
    assert "numpy" in loaded_by("import gigassl.slides.grid") & set(HEAVY)


def test_embedding_loads_nothing_that_only_evaluations_and_reports_need() -> None:
    loaded = loaded_by("import gigassl.pipeline.embed, gigassl.pipeline.preflight")
    unwanted = {"scipy", "sklearn", "pandas", "matplotlib", "lightly", "faiss", "ray", "openvino"}
    assert "torch" in loaded
    assert not loaded & unwanted


def test_files_stay_small_and_have_a_name_of_their_own() -> None:
    assert len(SOURCES) > 30
    for path in SOURCES:
        assert len(path.read_text().splitlines()) <= 400, path
        assert path.stem not in {"utils", "common", "misc", "base", "helpers"}, path


def test_every_module_opens_with_a_sentence() -> None:
    for path in SOURCES:
        if path.name != "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), path


def test_every_public_name_loads_and_is_documented() -> None:
    assert "embed" in gigassl.__all__
    for name in gigassl.__all__:
        thing = getattr(gigassl, name)
        assert inspect.getdoc(thing), name
        module = importlib.import_module(gigassl._HOME[name])
        assert getattr(module, name) is thing


def test_type_checkers_see_the_same_public_names() -> None:
    tree = ast.parse((REPO_ROOT / "gigassl" / "__init__.py").read_text())
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == gigassl._HOME


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        _ = gigassl.embedd


def test_at_most_three_positional_parameters() -> None:
    for path in SOURCES:
        if "cli" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                named = [a.arg for a in node.args.args if a.arg not in {"self", "cls"}]
                assert len(named) <= 3, f"{path.name}: {node.name}"


def test_no_path_of_a_machine_stands_in_the_package() -> None:
    for path in [*SOURCES, REPO_ROOT / "README.md", REPO_ROOT / "pyproject.toml"]:
        assert not re.search(r"[\"' =]/(home|root|tmp|mnt|work|opt)/", path.read_text()), path
