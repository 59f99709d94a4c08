"""Learning curves: what is drawn, always the same bytes, labels that do not touch."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gigassl.evaluate.comparison import CompareSettings, Comparison, compare
from gigassl.evaluate.predictions import Method
from gigassl.report.learning_curves import apart, drawn, panels_of, save_learning_curves
from tests.evaluate.prediction_tables import folds_of, predictions_of, task_of

METHODS = [
    (Method(name="vectors"), 1.2),
    (Method(name="abmil"), 0.8),
    (Method(name="tile-count", control="tile-count"), 0.1),
]


def curves(*sizes: str, tied: Sequence[Method] = ()) -> Comparison:
    """Curves of METHODS, and of others that said the same as one another."""
    task = task_of([0, 1] * 24)
    splits = [split for size in sizes for split in folds_of(task, size=size)]
    same = [predictions_of(task, splits, [(method, 1.0)]) for method in tied]
    return compare(
        [predictions_of(task, splits, METHODS), *same], settings=CompareSettings(draws=100)
    )


def test_sizes_rise_whatever_their_order_in_the_file() -> None:
    (panel,) = panels_of(curves("full", "8", "20"))
    assert panel.sizes == ((8, "8"), (20, "20"), (36, "full"))
    assert [curve.control for curve in panel.curves] == [False, False, True]
    assert all(np.array_equal(curve.n_train, [8, 20, 36]) for curve in panel.curves)


def test_both_files_are_drawn_and_have_the_same_bytes_each_time(tmp_path: Path) -> None:
    comparison = curves("8", "full")
    first = save_learning_curves(comparison, tmp_path / "a")
    second = save_learning_curves(comparison, tmp_path / "b")
    assert [path.name for path in first] == ["a.png", "a.svg"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    with Image.open(first[0]) as picture:
        assert picture.width > 600
    text = first[1].read_text()
    assert all(name in text for name in ("vectors", "abmil", "tile-count", "slides learned from"))


def test_one_training_size_is_no_curve(tmp_path: Path) -> None:
    assert save_learning_curves(curves("full"), tmp_path / "a") == ()
    assert list(tmp_path.iterdir()) == []


def test_leaders_end_at_their_own_names_and_cross_nothing() -> None:
    tied = [
        Method(name="vectors · logistic"),
        *(Method(name=f"vectors, {name} · logistic", control=name, control_of="vectors")
          for name in ("mean", "random-weights", "shuffled-coordinates", "mean+std")),
    ]  # fmt: skip
    comparison = curves("8", "full", tied=tied)
    figure = drawn(comparison, panels_of(comparison))
    figure.draw_without_rendering()
    (axis,) = figure.axes
    boxes = [text.get_window_extent() for text in axis.texts]
    leaders = [
        line.get_transform().transform(np.array(line.get_data()).T)
        for line in axis.lines
        if not line.get_clip_on()
    ]
    assert len(boxes) == len(leaders) == 8
    order = np.argsort([box.y0 for box in boxes])
    for below, above in pairwise(order):
        assert boxes[below].y1 < boxes[above].y0
        # they turn at one place, in the order of their names: none crosses another
        assert leaders[below][1, 1] <= leaders[above][1, 1]
        assert leaders[below][2, 1] < leaders[above][2, 1]
    for box, leader in zip(boxes, leaders, strict=True):
        assert box.y0 < leader[2, 1] < box.y1
        assert 0 < box.x0 - leader[2, 0] < 10
        assert leader[:, 0].max() < min(other.x0 for other in boxes)
        assert box.x1 < figure.bbox.x1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_are_moved_apart_in_order(wanted: list[float]) -> None:
    values = np.array(wanted)
    placed = apart(values, gap=0.05, within=(0.0, 1.0))
    order = np.argsort(values, kind="stable")
    assert (np.diff(placed[order]) >= 0.05 - 1e-9).all()
    assert -1e-9 <= placed.min() <= placed.max() <= 1 + 1e-9
    if len(values) < 2 or np.diff(values[order]).min() >= 0.05:
        np.testing.assert_allclose(placed, values, atol=1e-9)
