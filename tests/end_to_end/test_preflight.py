"""``gigassl embed --dry-run`` through the command line, and the run compared with it."""

import json
import shutil
from pathlib import Path

from tests.end_to_end.conftest import Run


def test_a_dry_run_then_the_run_that_it_foretold(run: Run, slides: Path, tmp_path: Path) -> None:
    own, out = tmp_path / "own", tmp_path / "v.parquet"
    shutil.copytree(slides, own)
    (own / "empty.svs").write_bytes(b"")
    command = ("embed", own, "-o", out, "--tile-encoder", "nic:mean-rgb")

    said = run(
        *command, "--dry-run", "--keep-bags", tmp_path / "bags", "--overviews", tmp_path / "s"
    )
    assert said.code == 1
    assert "4 slides to do, 0 done before" in said.out
    assert "1 slides will fail:\n  empty: open: the file is empty" in said.out
    assert "counted on every slide" in said.out
    assert "for bags" in said.out
    assert sorted(tmp_path.iterdir()) == [own], "nothing is written"

    foretold = run(*command, "--dry-run", "--json")
    assert foretold.code == 1
    saved = tmp_path / "preflight.json"
    saved.write_text(foretold.out)
    done = run(*command, "--json", "--expected", saved)
    assert done.code == 1
    assert json.loads(done.out)["failures"] == json.loads(foretold.out)["failures"]
    assert "the dry run foretold about" in done.err
    timing = json.loads(done.out)["timing"]
    assert timing["by"] == "dry run"
    assert timing["n_tiles"] == timing["expected"]["n_tiles"]["value"]

    (own / "empty.svs").unlink()
    again = run(*command, "--dry-run")
    assert again.code == 0
    assert "0 slides to do, 3 done before" in again.out
    refused = run(*command, "--expected", tmp_path / "absent.json")
    assert refused.code == 2
    assert "No such file" in refused.err
