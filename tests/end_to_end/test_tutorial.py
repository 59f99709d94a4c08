"""The tutorial notebook: as committed, and run from an empty folder."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.shared_data import REPO_ROOT

PATH = REPO_ROOT / "docs" / "tutorial.ipynb"
NOTEBOOK = nbformat.read(PATH, as_version=4)  # type: ignore[no-untyped-call]


def outputs(notebook: Any) -> list[Any]:
    return [out for cell in notebook.cells for out in cell.get("outputs", [])]


def test_it_is_committed_with_its_pictures_small_and_without_paths() -> None:
    assert PATH.stat().st_size < 600_000
    shown = outputs(NOTEBOOK)
    pictures = [out for out in shown if "image/png" in out.get("data", {})]
    assert len(pictures) >= 5
    wrong = [o for o in shown if o.output_type == "error" or o.get("name") == "stderr"]
    assert not wrong
    counts = [cell.execution_count for cell in NOTEBOOK.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    said = [out.get("text", "") + str(out.get("data", {}).get("text/plain", "")) for out in shown]
    assert not re.search(r"/(tmp|home|root|work|usr)/", "\n".join(said))


@pytest.mark.slow  # paints and embeds 32 slides
def test_it_runs_from_an_empty_folder(tmp_path: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(PATH, as_version=4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    assert [out.output_type for out in outputs(notebook)] == [
        out.output_type for out in outputs(NOTEBOOK)
    ]
    assert (tmp_path / "vectors.parquet").is_file()
