"""Growth and projection: the page's numbers come from here, and the benchmark runs."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import project, scale
from benchmarks.project import ALL, BANK, MILLION, SMALL_BANK, TCGA, fetch_hours, hours, page
from benchmarks.scale_runs import PIECE, name_of, pieces
from gigassl.vectors.row import LENGTH_TOLERANCE

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def test_the_page_holds_what_is_computed() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for table in page().split("\n\n"):
        assert table in text, "print it anew with `python -m benchmarks.project`"


def test_projections_by_hand() -> None:
    # 11,642 slides × 50 augmentations × 256 tiles / 300 a second
    assert project.cpu_hours(TCGA, BANK) == pytest.approx(149_017_600 / 300 / 3600)
    assert project.cpu_hours(TCGA, BANK) == pytest.approx(138, abs=0.5)
    assert project.cpu_hours(TCGA, SMALL_BANK) == pytest.approx(6.74, abs=0.01)
    # 16 TB are 128 terabits: 12,800 s at ten gigabits a second
    assert fetch_hours(TCGA, gbit_per_s=10) == pytest.approx(12_800 / 3600)
    assert fetch_hours(MILLION, gbit_per_s=100) == pytest.approx(30.5, abs=0.1)
    assert project.bank_gb(TCGA, SMALL_BANK) == pytest.approx(7.27625 * 0.52, abs=0.001)


def test_the_slowest_stage_is_the_time() -> None:
    one, many = (hours(TCGA, ALL, encoder="ViT-L", gpus=gpus) for gpus in (1, 64))
    assert project.slowest(one)[0] == "GPU"
    assert project.slowest(many)[0] == "line"
    assert many["GPU"] == pytest.approx(one["GPU"] / 64)
    assert many["line"] == one["line"]
    assert many["writer"] == one["writer"]


def test_synthetic_rows_are_the_same_however_many() -> None:
    few, many = np.concatenate(list(pieces(300))), np.concatenate(list(pieces(PIECE + 5)))
    assert len(many) == PIECE + 5
    assert np.array_equal(many[:300], few)
    assert np.abs(np.linalg.norm(many, axis=1) - 1).max() < LENGTH_TOLERANCE
    names = [name_of(number) for number in range(5000)]
    assert len(set(names)) == 5000
    assert names != sorted(names)


@pytest.mark.slow
def test_the_benchmark_measures_draws_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["scale", "--rows", "20", "1000", "--most-slides", "20", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    scale.main()
    said = capsys.readouterr().out
    assert "1,000 rows: ivf, recall@10" in said
    assert "20 rows: embed, ms a tiny bag" in said
    with (tmp_path / "scale.csv").open(encoding="utf-8") as handle:
        rows = {(row["rows"], row["what"]): float(row["value"]) for row in csv.DictReader(handle)}
    assert rows["1000", "files in .parts"] == 1000
    assert rows["1000", "ivf, recall@10"] >= 0.9
    assert (tmp_path / "scale.png").stat().st_size > 10_000
    assert {path.name for path in tmp_path.iterdir()} == {"scale.csv", "scale.png"}
