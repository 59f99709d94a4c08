"""Maps, columns and outliers, each against a plain second way."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation
from sklearn.decomposition import PCA

from gigassl.report.page.columns import column_of_numbers, column_of_texts, distinct
from gigassl.report.page.outliers import distances, outliers_section, robust_z
from gigassl.report.page.projection import neighbourhood, pca_map, umap_map
from gigassl.vectors.search import nearest
from gigassl.vectors.table import SlideTable, table_from_rows
from tests.vectors.test_table import PROVENANCE, make_row, make_table


def slides(n: int, dim: int = 6) -> SlideTable:
    return table_from_rows([make_row(f"s{k:03}", dim) for k in range(n)], provenance=PROVENANCE)


@pytest.mark.parametrize("n", [4, 40])  # fewer and more slides than numbers in a vector
def test_components_are_those_of_scikit_learn_up_to_sign_and_scale(n: int) -> None:
    vectors = slides(n).embeddings
    found = pca_map(vectors)
    expected = PCA(2).fit(vectors.astype(np.float64))
    xy = expected.transform(vectors.astype(np.float64))
    for axis in range(2):
        assert abs(np.corrcoef(found.xy[:, axis], xy[:, axis])[0, 1]) == pytest.approx(1, abs=1e-5)
        assert found.xy[np.abs(xy[:, axis]).argmax(), axis] > 0 or n == 4
    shares = expected.explained_variance_ratio_
    assert found.axes == (f"PC1 ({shares[0]:.0%})", f"PC2 ({shares[1]:.0%})")
    assert np.ptp(found.xy, axis=0).max() == pytest.approx(2, abs=1e-3)


def test_one_slide_and_equal_slides_have_a_map_too() -> None:
    for n in (1, 3):
        same = np.tile(slides(1).embeddings, (n, 1))
        assert (pca_map(same).xy == 0).all()


@pytest.mark.parametrize("n", [1, 2, 30])
def test_the_neighbourhood_is_what_nearest_says(n: int) -> None:
    table = slides(n)
    near = neighbourhood(table, k=7)
    assert near.rows.shape == near.similarities.shape == (n, min(7, n - 1))
    for row, name in enumerate(table.slide_ids):
        expected = nearest(table, name, k=7)
        assert [table.slide_ids[k] for k in near.rows[row]] == [e.slide_id for e in expected]
        assert near.similarities[row].tolist() == [e.similarity for e in expected]


@pytest.mark.slow
def test_umap_keeps_groups_apart_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for k in range(60):
        vector = rng.standard_normal(8) * 0.3
        vector[k % 3] += 2
        rows.append(make_row(f"s{k:02}", embedding=(vector / np.linalg.norm(vector)).astype("f4")))
    table = table_from_rows(rows, provenance=PROVENANCE)
    near = neighbourhood(table)
    first, again, other = (umap_map(table.embeddings, near, seed=s) for s in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert (first.xy == again.xy).all()
    assert (first.xy != other.xy).any()
    group = np.arange(60) % 3
    apart = np.linalg.norm(first.xy[:, None] - first.xy[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (group[apart.argmin(axis=1)] == group).all()


def test_too_few_slides_have_no_umap_and_no_outliers() -> None:
    table = slides(4)
    assert umap_map(table.embeddings, neighbourhood(table), seed=0) is None
    two = make_table("a", "b")
    assert outliers_section(two.slide_ids, near=neighbourhood(two), spread=np.ones(2)) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=30))
def test_deviations_are_in_robust_units(values: list[float]) -> None:
    found = robust_z(np.array(values))
    scale = median_abs_deviation(values, scale="normal")
    if scale < 1e-9:
        return
    expected = (np.array(values) - np.median(values)) / scale
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-9)


def test_the_slide_far_from_all_others_is_listed_first() -> None:
    rows = [make_row(f"s{k}", embedding=_unit(0, k)) for k in range(12)]
    odd = make_row("odd", embedding=_unit(7, 0))
    table = table_from_rows([*rows, odd], provenance=PROVENANCE)
    near = neighbourhood(table)
    assert distances(near).argmax() == table.slide_ids.index("odd")
    section = outliers_section(table.slide_ids, near=near, spread=np.full(13, np.nan))
    assert section is not None
    assert str(section.body).index(">odd<") < str(section.body).index(">s0<")
    assert "have no views" in section.body


def _unit(axis: int, noise: int) -> np.ndarray:
    vector = 0.05 * np.random.default_rng(noise).standard_normal(8)
    vector[axis] += 1
    unit: np.ndarray = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit


def test_texts_that_are_numbers_are_numbers_unless_they_are_few() -> None:
    many = column_of_texts("age", [str(k) for k in range(30)] + [""], group="g")
    assert many.numbers is not None
    assert math.isnan(many.numbers[-1])
    assert many.known == 30
    assert many.as_record()["values"][-1] is None
    grade = column_of_texts("grade", ["3", "1", "10", "", "1"], group="g")
    assert grade.numbers is None
    assert grade.categories == ("1", "3", "10")
    assert grade.codes().tolist() == [1, 0, 2, -1, 0]
    mixed = column_of_texts("x", [*map(str, range(30)), "n/b"], group="g")
    assert mixed.numbers is None


def test_only_columns_that_tell_slides_apart_are_offered_once() -> None:
    constant = column_of_numbers("tiles", [5, 5, 5], group="a")
    first = column_of_texts("site", ["a", "b", "a"], group="a")
    second = column_of_texts("site", ["a", "b", "b"], group="b")
    assert distinct([constant, first, second]) == (first,)
