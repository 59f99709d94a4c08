"""Quality gate: one point and one line are collapsed; poolings and few slides are not judged."""

from typing import Any

import numpy as np
import pytest

from gigassl.pipeline.gate import MOST_ROWS, quality_of
from gigassl.representation import FEWEST
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.table import SlideRow, SlideTable, table_from_rows
from tests.vectors.large_tables import large_table

BY_MODEL = {"settings": {"slide_encoder": {"digest": "m1"}}}


def table_of(vectors: Any, provenance: Any = None) -> SlideTable:
    rows = [
        SlideRow(slide_id=f"s{n:03}", patient_id="p", file="f", n_tiles=9, settings_digest="e",
                 embedding=l2_normalised(vector))
        for n, vector in enumerate(np.asarray(vectors, dtype=np.float32))
    ]  # fmt: skip
    return table_from_rows(rows, provenance=provenance or BY_MODEL)


def drawn(n_slides: int = 30, *, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(n_slides, 16))


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_vectors_that_differ_are_sound(offset: float) -> None:
    quality = quality_of(table_of(drawn() + offset))
    assert quality is not None
    assert not quality.collapsed
    assert quality.effective_rank > 10
    assert quality.mean_cosine == pytest.approx(offset**2 / (1 + offset**2), abs=0.06)
    assert quality.sentence().startswith("effective rank 1")


@pytest.mark.parametrize("noise", [0.0, 1e-3, 1e-2])
def test_one_point_is_collapsed(noise: float) -> None:
    quality = quality_of(table_of(np.ones((30, 16)) + noise * drawn()))
    assert quality is not None
    assert quality.collapsed
    assert "the vectors have collapsed: effective rank" in quality.alarm()
    assert quality.summary()["collapsed"] is True


def test_one_line_is_collapsed() -> None:
    """Unit vectors on a line about their mean: two opposite points, all the rest is rounding."""
    side = np.where(np.arange(30) % 2, 1.0, -1.0)[:, None]
    quality = quality_of(table_of(side * np.ones((1, 16)) + 1e-5 * drawn()))
    assert quality is not None
    assert quality.mean_cosine < 0.1
    assert quality.effective_rank < 2
    assert quality.collapsed


def test_two_kinds_of_slides_are_no_line() -> None:
    side = np.where(np.arange(FEWEST) % 2, 1.0, -1.0)[:, None]
    quality = quality_of(table_of(side * np.ones((1, 16)) + 0.1 * drawn(FEWEST)))
    assert quality is not None
    assert not quality.collapsed


def test_poolings_and_few_slides_are_not_judged() -> None:
    point = np.ones((30, 16))
    assert quality_of(table_of(point, {"settings": {"slide_encoder": "mean"}})) is None
    assert quality_of(table_of(point[: FEWEST - 1])) is None
    assert quality_of(table_of(point[:FEWEST])) is not None
    assert quality_of(None) is None


def test_of_very_large_tables_every_second_row_is_looked_at() -> None:
    vectors = np.zeros((MOST_ROWS + 1, 4), np.float32)
    vectors[::2, 0] = 1
    vectors[1::2] = np.eye(4)[np.arange(MOST_ROWS // 2) % 4]
    quality = quality_of(large_table(vectors, provenance=BY_MODEL))
    assert quality is not None
    assert quality.mean_cosine == pytest.approx(1), "every first row is the same vector"
    less = quality_of(large_table(vectors[:-1], provenance=BY_MODEL))
    assert less is not None
    assert less.mean_cosine < 0.9
