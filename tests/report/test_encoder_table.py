"""Table and plot of tile encoders: what is not known is a dash, equal rows give equal files."""

import csv
import io
from pathlib import Path

import numpy as np

from gigassl.evaluate.scores import Delta, Score
from gigassl.report.encoder_table import EncoderRow, encoder_csv, encoder_grid, encoder_records
from gigassl.report.speed_plot import save_speed_plot
from gigassl.report.tables import grid_as_latex, grid_as_markdown, grid_as_text

NAN = float("nan")


def score(mean: float, *, around: float = 0.05) -> Score:
    return Score(
        metric="auc", folds=np.array([mean]), mean=mean, sd=NAN, low=mean - around,
        high=mean + around, interval="corrected resampled t", pooled=mean, pooled_low=mean,
        pooled_high=mean, undefined=0.0,
    )  # fmt: skip


def row(name: str, auc: float, *, speed: float | None = 100.0, control: str = "") -> EncoderRow:
    delta = Delta(control="x", difference=0.1, low=0.05, high=0.15, interval="t")
    return EncoderRow(
        name=name, control=control, width=512, mpp=None if speed is None else 0.5,
        licence="" if control else "Apache-2.0", auc=score(auc), balanced_accuracy=score(auc),
        knn=score(NAN), over_random=None if control else delta, tiles_per_s=speed,
        weight_bytes=None if speed is None else 44_744_608,
    )  # fmt: skip


ROWS = (
    row("a_b", 0.9),
    row("twice as fast", 0.901, speed=200.0),
    row("random:net", 0.6, control="random-weights"),
    row("colour", 0.65, speed=None, control="colour"),
)


def test_cells() -> None:
    grid = encoder_grid(ROWS, title="set_1", inside="95%")
    assert "Δ first" not in grid.header  # no row has one
    cells = [dict(zip(grid.header, each, strict=True)) for each in grid.rows]
    assert cells[0]["Δ random"] == "+0.100 [+0.050, +0.150]"
    assert (cells[0]["AUC"], cells[0]["95% interval"]) == ("0.900", "[0.850, 0.950]")
    assert (cells[0]["MB"], cells[1]["tiles/s"]) == ("44.7", "200")
    assert cells[0]["kNN bal. acc."] == "–"
    assert cells[3]["encoder"] == "colour (control)"
    assert (cells[3]["tiles/s"], cells[3]["µm/px"], cells[3]["licence"]) == ("–", "–", "–")
    assert r"a\_b" in grid_as_latex(grid)
    for text in (grid_as_text(grid), grid_as_markdown(grid)):
        assert all(cell in text for each in grid.rows for cell in each)


def test_numbers_are_not_rounded_and_nan_is_empty() -> None:
    records = encoder_records(ROWS)
    assert records[0]["weight_bytes"] == 44_744_608
    assert records[0]["knn_balanced_accuracy"] is None
    read = list(csv.DictReader(io.StringIO(encoder_csv(ROWS))))
    assert [float(each["auc"]) for each in read] == [each.auc.mean for each in ROWS]
    assert read[3]["tiles_per_s"] == read[0]["minus_first_difference"] == ""


def test_equal_rows_give_equal_figures(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        paths = save_speed_plot(ROWS, tmp_path / name, title="set", conditions="cpu, 2 threads")
        found.append([path.read_bytes() for path in paths])
    assert found[0] == found[1]
    drawn = found[0][1].decode()
    assert all(each.name in drawn for each in ROWS)
    assert "cpu, 2 threads" in drawn
