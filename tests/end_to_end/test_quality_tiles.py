"""Do tile encoders learn: the exam's tiles, its judge, and two methods on painted tiles."""

import numpy as np
import pytest

from benchmarks.quality_tiles import synthetic
from benchmarks.quality_tiles_data import TILE_PX, TYPES, MemoryTiles, painted_tiles
from benchmarks.quality_tiles_exam import (
    NEIGHBOURS,
    Answers,
    image_vectors,
    mean_colour,
    named_rightly,
    standardised,
)
from gigassl.tiles.pretrain.source import BatchPlan


def test_painted_tiles_are_those_of_their_patients() -> None:
    both, one = painted_tiles([3, 4], each=2), painted_tiles([4], each=2)
    assert both.tiles.shape == (2 * 2 * len(TYPES), TILE_PX, TILE_PX, 3)
    np.testing.assert_array_equal(both.tiles[both.groups == 4], one.tiles)
    np.testing.assert_array_equal(np.bincount(one.labels), [2] * len(TYPES))


def slowly_named(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> list[bool]:
    """Each tile by votes of its neighbours among the other patients' tiles, one by one."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    right = []
    for one, label, group in zip(unit, labels, groups, strict=True):
        others = np.flatnonzero(groups != group)
        distance = 1 - unit[others] @ one
        votes = np.zeros(labels.max() + 1)
        for place in np.argsort(distance)[:NEIGHBOURS]:
            votes[labels[others[place]]] += 1 / distance[place]
        right.append(bool(votes.argmax() == label))
    return right


def test_tiles_are_named_by_tiles_of_other_patients() -> None:
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(3, size=90), np.repeat(np.arange(6), 15)
    features = rng.standard_normal((90, 5)) + 1.5 * np.eye(3, 5)[labels]
    features = np.asarray(features, np.float32)
    found = named_rightly(features, labels=labels, groups=groups)
    assert found.tolist() == slowly_named(features.astype(np.float64), labels, groups)
    assert 0.4 < found.mean() < 1.0


def test_an_encoder_is_no_better_than_itself_and_intervals_draw_patients() -> None:
    groups = np.repeat(np.arange(10), 20)
    half = Answers(right=np.array([groups % 2 == 0]), groups=groups)
    alike = Answers(right=np.array([np.arange(200) % 2 == 0]), groups=groups)
    same = half.minus(half)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert half.interval.value == alike.interval.value == 0.5
    # patients all right or all wrong say less than patients that are half right
    assert half.interval.low < 0.35
    assert alike.interval.low == alike.interval.high == 0.5


def test_batches_of_few_groups_hold_as_many_tiles_of_each() -> None:
    tiles = np.arange(40, dtype=np.uint8).repeat(12).reshape(40, 2, 2, 3)
    source = MemoryTiles(tiles, np.repeat(np.arange(8), 5), groups_a_batch=3)
    plan = BatchPlan(last=4, size=9, seed=1)
    for batch, again in zip(source.batches(plan), source.batches(plan), strict=True):
        np.testing.assert_array_equal(batch.tiles, again.tiles)
        assert sorted(np.bincount(batch.file, minlength=8))[-3:] == [3, 3, 3]
        shown = batch.tiles[:, 0, 0, 0].numpy()
        assert len(set(shown)) == 9
        np.testing.assert_array_equal(shown // 5, batch.file)


def test_an_image_is_the_mean_of_its_tiles() -> None:
    features = np.array([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]], np.float32)
    found = image_vectors(features, np.array([0, 0, 1]))
    np.testing.assert_array_equal(found, [[2.0, 1.0], [5.0, 5.0]])


def test_colour_alone_says_little_of_painted_tiles() -> None:
    exam = painted_tiles(range(6), each=6)
    colours = standardised(mean_colour(exam.tiles))
    right = named_rightly(colours, labels=exam.labels, groups=exam.groups)
    assert right.mean() < 0.6


# the gains of the others are clear over three seeds only, which is what the benchmark is for
@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "dinov2"])
def test_what_gains_most_learns_with_any_seed(method: str) -> None:
    found = synthetic([method], seeds=range(1))
    name = next(name for name in found if name.endswith(f", {method}"))
    begun = f"{name.partition(',')[0]}, random weights"
    assert found[name].minus(found[begun]).low > 0.0
