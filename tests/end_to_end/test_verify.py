"""``gigassl verify`` through the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from gigassl.vectors.table import open_table, save_table, table_from_rows
from tests.end_to_end.conftest import Run


def test_a_table_is_certified_until_something_changes(
    run: Run, slides: Path, tmp_path: Path
) -> None:
    table, own = tmp_path / "v.parquet", tmp_path / "own"
    shutil.copytree(slides, own)
    assert run("embed", own, "-o", table, "--tile-encoder", "nic:mean-rgb").code == 0
    before = sorted(tmp_path.rglob("*"))

    done = run("verify", table, "--slides", own, "--sample", 2)
    assert done.code == 0, done.err
    assert "v.parquet: 2 of 3 rows, seed 0" in done.out
    assert "certified: every sampled row re-embedded has cosine ≥ 0.9999" in done.out
    assert "with 2 of 3 rows sampled and none differing, at most" in done.out
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"

    rows = open_table(table)
    vectors = {row.slide_id: row.embedding for row in rows.rows()}
    forged = [replace(row, embedding=vectors["gamma"]) for row in rows.rows()]
    save_table(table_from_rows(forged, provenance=rows.provenance), table)
    (own / "beta.svs").unlink()
    done = run("verify", table, "--slides", own, "--json")
    assert done.code == 1
    summary = json.loads(done.out)
    verdicts = {row["slide_id"]: row["verdict"] for row in summary["rows"]}
    assert verdicts == {"alpha": "differs", "beta": "missing", "gamma": "same"}
    assert (summary["certified"], summary["unconfirmed"], summary["sample"]) == (False, 2, 3)

    assert run("verify", table, "--slides", tmp_path / "absent").code == 2
    assert run("verify", own / "alpha.svs", "--slides", own).code == 2
    assert run("verify", table, "--slides", own, "--slide-encoder", "x.safetensors").code == 2
