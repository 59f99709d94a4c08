"""Contributions to a linear probe: they sum to its logit, and are what loops say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.explain.linear import explain_pooled, readout_of
from gigassl.evaluate.fitted_probe import FittedProbe
from gigassl.vectors.pooling import POOLINGS, l2_normalised, pool

DIM = 5
every_pooling = pytest.mark.parametrize("pooling", POOLINGS)
SEEDS = st.integers(0, 2**31)


def some_tiles(n: int, seed: int) -> np.ndarray:
    """Float16 as in bags, with columns that are constant and values that occur twice."""
    tiles = np.random.default_rng(seed).normal(size=(n, DIM)).round(1)
    tiles[:, 0] = 0.5
    return tiles.astype(np.float16)


def some_probe(
    pooling: str, *, outputs: int = 1, method: str = "logistic", seed: int = 3
) -> FittedProbe:
    rng = np.random.default_rng(seed)
    width = DIM * (2 if pooling == "mean+std" else 1)
    return FittedProbe(
        method=method, unit_norm=True, centre=rng.normal(size=width) / 4,
        factors=rng.uniform(0.5, 2, width), coefficients=rng.normal(size=(outputs, width)) * 3,
        intercepts=rng.normal(size=outputs),
    )  # fmt: skip


def by_loops(tiles: np.ndarray, pooling: str, weights: np.ndarray) -> list[float]:
    """What each tile adds to ``weights · pooled``, column by column."""
    x, n = tiles.astype(np.float64), len(tiles)
    found = [0.0] * n
    for column in range(DIM):
        values = x[:, column]
        for tile in range(n):
            if pooling == "max":
                reach = [v == max(values) for v in values]
                found[tile] += weights[column] * values[tile] * reach[tile] / sum(reach)
                continue
            found[tile] += weights[column] * values[tile] / n
            if pooling == "mean+std" and np.std(values) > 1e-12:
                part = (values[tile] - np.mean(values)) ** 2 / n / np.var(values)
                found[tile] += weights[DIM + column] * np.std(values) * part
    return found


@every_pooling
@given(n=st.integers(1, 40), seed=SEEDS, number=st.integers(0, 1))
def test_contributions_sum_to_the_logit_less_the_intercept(
    pooling: str, n: int, seed: int, number: int
) -> None:
    tiles, probe = some_tiles(n, seed), some_probe(pooling)
    found = explain_pooled(tiles, pooling=pooling, readout=readout_of(probe, number=number))
    assert found.completeness_error is not None
    assert found.completeness_error < 1e-5
    assert found.score.sum() == pytest.approx(found.output - found.offset, abs=1e-5)
    # and the logit is the probe's own, of the vector as tables hold it
    vector = l2_normalised(pool(tiles, method=pooling))
    p = float(probe.predict(vector[None])[0, number])
    assert found.output == pytest.approx(np.log(p / (1 - p)), abs=1e-4)


@every_pooling
@given(n=st.integers(1, 12), seed=SEEDS)
def test_each_contribution_is_what_loops_say(pooling: str, n: int, seed: int) -> None:
    tiles, readout = some_tiles(n, seed), readout_of(some_probe(pooling), number=1)
    length = np.linalg.norm(pool(tiles, method=pooling).astype(np.float64))
    slow = np.array(by_loops(tiles, pooling, readout.weights / length)) + readout.shift / n
    found = explain_pooled(tiles, pooling=pooling, readout=readout)
    np.testing.assert_allclose(found.score, slow, atol=1e-9)


def test_memory_is_bounded_without_changing_sums() -> None:
    tiles = some_tiles(2500, 0)
    for pooling in POOLINGS:
        found = explain_pooled(
            tiles, pooling=pooling, readout=readout_of(some_probe(pooling), number=1)
        )
        assert found.completeness_error is not None
        assert found.completeness_error < 1e-5


def test_of_two_classes_the_first_has_minus_the_logit_of_the_second() -> None:
    probe, tiles = some_probe("mean"), some_tiles(9, 1)
    no, yes = (
        explain_pooled(tiles, pooling="mean", readout=readout_of(probe, number=k)) for k in (0, 1)
    )
    np.testing.assert_allclose(no.score, -yes.score)
    assert no.output == pytest.approx(-yes.output)


def test_of_several_classes_and_of_values_each_output_is_its_own() -> None:
    tiles = some_tiles(9, 1)
    vector = l2_normalised(pool(tiles, method="mean"))
    several = some_probe("mean", outputs=3)
    logits = [explain_pooled(tiles, pooling="mean", readout=readout_of(several, number=k)).output
              for k in range(3)]  # fmt: skip
    shares = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(several.predict(vector[None])[0], shares, atol=1e-6)
    for method in ("ridge", "cox"):
        value = some_probe("mean", method=method)
        said = explain_pooled(tiles, pooling="mean", readout=readout_of(value, number=0))
        assert said.output == pytest.approx(float(value.predict(vector[None])[0, 0]), abs=1e-6)


def test_what_has_no_weights_cannot_be_explained() -> None:
    with pytest.raises(SettingsError, match="a 'knn' probe has no weights"):
        readout_of(some_probe("mean", method="knn"), number=0)
    with pytest.raises(SettingsError, match="2 outputs; there is no number 2"):
        readout_of(some_probe("mean"), number=2)
    readout = readout_of(some_probe("mean"), number=1)
    with pytest.raises(SettingsError, match="columns; 'mean\\+std' of these"):
        explain_pooled(some_tiles(4, 0), pooling="mean+std", readout=readout)
    with pytest.raises(SettingsError, match="unknown pooling"):
        explain_pooled(some_tiles(4, 0), pooling="median", readout=readout)
    with pytest.raises(SlideError, match="is zero"):
        explain_pooled(np.zeros((3, DIM), np.float16), pooling="mean", readout=readout)
