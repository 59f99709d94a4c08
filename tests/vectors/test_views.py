"""Views against a loop over slides; what a view may read; what the random numbers look like."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gigassl.bags.bag import Bag
from gigassl.errors import SettingsError
from gigassl.vectors.tile_store import TileStore
from gigassl.vectors.views import DrawnViews, ViewSettings, draw, draw_views, take_views
from tests.vectors.stores import bags_of, grid_bag, store_of

PLAIN = ViewSettings(rotation="none", flip=False, scale=(1.0, 1.0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_slides(store: TileStore, *, seed: int, n_views: int = 7) -> torch.Tensor:
    return torch.randint(len(store), (n_views,), generator=seeded(seed))


def slide_by_slide(store: TileStore, slides: Any, drawn: DrawnViews) -> tuple[Any, Any]:
    """Features and coordinates of the views, tile by tile in float64."""
    features, coords = [], []
    for view, slide in enumerate(slides.tolist()):
        rows = drawn.rows[view].tolist()
        tiles = [store.features[row].double().numpy() for row in rows]
        if drawn.noise is not None:
            size = math.sqrt(np.mean([value**2 for tile in tiles for value in tile]))
            tiles = [tile + drawn.noise[view].double().numpy() * size for tile in tiles]
        if drawn.gain is not None:
            tiles = [tile * drawn.gain[view].double().numpy() for tile in tiles]
        features += tiles
        corner = store.coords[rows[0]].double().numpy()
        for row in rows:
            um = (store.coords[row].double().numpy() - corner) * float(store.um_per_unit[slide])
            coords.append(um @ drawn.transform[view].double().numpy())
    return np.array(features), np.array(coords)


@st.composite
def settings(draw_: st.DrawFn) -> ViewSettings:
    return ViewSettings(
        tiles=draw_(st.integers(1, 9)),
        rotation=draw_(st.sampled_from(["any", "right", "none"])),
        flip=draw_(st.booleans()),
        scale=draw_(st.sampled_from([(0.7, 1.3), (1.0, 1.0)])),
        crop=draw_(st.sampled_from([1.0, 0.5, 0.01])),
        window=draw_(st.sampled_from(["scatter", "dense"])),
        feature_dropout=draw_(st.sampled_from([0.0, 0.5])),
        feature_noise=draw_(st.sampled_from([0.0, 0.2])),
    )


@given(bags=bags_of(), wanted=settings(), seed=st.integers(0, 999))
def test_a_batch_is_what_a_loop_makes(bags: list[Bag], wanted: ViewSettings, seed: int) -> None:
    store = store_of(*bags)
    slides = random_slides(store, seed=seed)
    drawn = draw(store, slides, settings=wanted, generator=seeded(seed))
    views = draw_views(store, slides, settings=wanted, generator=seeded(seed))
    features, coords = slide_by_slide(store, slides, drawn)
    np.testing.assert_allclose(views.features.numpy(), features, atol=1e-5)
    np.testing.assert_allclose(views.coords.numpy(), coords, atol=1e-2)  # µm
    assert views.bag.tolist() == [view for view in range(7) for _ in range(wanted.tiles)]
    assert views.n_bags == 7


@given(bags=bags_of(), wanted=settings(), seed=st.integers(0, 999))
def test_a_view_reads_only_its_slide(bags: list[Bag], wanted: ViewSettings, seed: int) -> None:
    store = store_of(*bags)
    slides = random_slides(store, seed=seed)
    drawn = draw(store, slides, settings=wanted, generator=seeded(seed))
    views = take_views(store, slides, drawn=drawn)
    seen = torch.zeros(len(store.features), dtype=torch.bool)
    seen[drawn.rows.flatten()] = True
    for view, slide in enumerate(slides.tolist()):
        first, count = int(store.first[slide, 0]), int(store.count[slide, 0])
        assert ((drawn.rows[view] >= first) & (drawn.rows[view] < first + count)).all()
    # what no view saw may be anything
    poisoned = replace(
        store, features=torch.where(seen[:, None], store.features, torch.nan),
        coords=torch.where(seen[:, None], store.coords, 10**9),
    )  # fmt: skip
    again = take_views(poisoned, slides, drawn=drawn)
    assert torch.equal(views.features, again.features)
    assert torch.equal(views.coords, again.coords)


@given(
    bags=bags_of(), wanted=settings(), seed=st.integers(0, 999),
    shift=st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6)),
)  # fmt: skip
def test_where_the_slide_lies_does_not_matter(
    bags: list[Bag], wanted: ViewSettings, seed: int, shift: tuple[int, int]
) -> None:
    store = store_of(*bags)
    moved = replace(store, coords=store.coords + torch.tensor(shift))
    slides = random_slides(store, seed=seed)
    here = draw_views(store, slides, settings=wanted, generator=seeded(seed))
    there = draw_views(moved, slides, settings=wanted, generator=seeded(seed))
    assert torch.equal(here.coords, there.coords)
    assert torch.equal(here.features, there.features)


def test_two_calls_are_two_views_and_a_seed_is_one() -> None:
    store, slides = store_of(grid_bag()), torch.zeros(3, dtype=torch.int64)
    generator = seeded(1)
    first, second = (
        draw_views(store, slides, settings=ViewSettings(), generator=generator) for _ in range(2)
    )
    assert not torch.equal(first.coords, second.coords)
    again = draw_views(store, slides, settings=ViewSettings(), generator=seeded(1))
    assert torch.equal(first.coords, again.coords)


def augmented(n_augmentations: int, *, tiles: int) -> TileStore:
    """Two slides with several groups each; the features say slide and augmentation."""
    n_groups = 2 * n_augmentations
    group = torch.arange(n_groups).repeat_interleave(tiles)
    features = torch.stack([group // n_augmentations, group % n_augmentations], dim=1)
    store = store_of(grid_bag(dim=2))
    return replace(
        store,
        features=features.half(),
        coords=torch.arange(2 * len(group)).view(-1, 2),
        um_per_unit=torch.tensor([0.25, 0.5]),
        first=(torch.arange(n_groups) * tiles).view(2, -1),
        count=torch.full((2, n_augmentations), tiles),
        slide_ids=("a", "b"),
        patient_ids=("a", "b"),
    )


@pytest.mark.parametrize("window", ["scatter", "dense"])
def test_a_view_has_one_augmentation_and_all_are_used_alike(window: Any) -> None:
    store = augmented(5, tiles=8)
    slides = torch.arange(2).repeat(2500)
    wanted = replace(PLAIN, window=window)
    views = draw_views(store, slides, settings=wanted, generator=seeded(0))
    seen = views.features.view(5000, 5, 2)
    assert (seen == seen[:, :1]).all()
    assert torch.equal(seen[:, 0, 0], slides.float())
    counts = Counter(seen[:, 0, 1].int().tolist())
    assert set(counts) == set(range(5))
    assert all(abs(count - 1000) < 5 * math.sqrt(1000 * 0.8) for count in counts.values())


def transforms(wanted: ViewSettings, n_views: int = 20_000) -> Any:
    store = store_of(grid_bag())
    slides = torch.zeros(n_views, dtype=torch.int64)
    return draw(store, slides, settings=wanted, generator=seeded(0)).transform.double().numpy()


def assert_even(values: Any, low: float, high: float) -> None:
    """All twenty parts of the range are hit alike (five standard deviations)."""
    counts, _ = np.histogram(values, bins=20, range=(low, high))
    expected = len(values) / 20
    assert counts.sum() == len(values)
    assert (abs(counts - expected) < 5 * math.sqrt(expected)).all(), counts


def test_angles_stretches_and_flips_are_drawn_evenly() -> None:
    matrix = transforms(ViewSettings())
    # rotate · flip · scale: the columns are the turned axes, each stretched by its own factor
    length = np.linalg.norm(matrix, axis=1)
    for axis in range(2):
        assert_even(length[:, axis], 0.7, 1.3)
    np.testing.assert_allclose((matrix[:, :, 0] * matrix[:, :, 1]).sum(axis=1), 0, atol=1e-6)
    assert_even(np.arctan2(matrix[:, 0, 0], matrix[:, 1, 0]), -math.pi, math.pi)
    mirrored = np.linalg.det(matrix) < 0
    assert abs(mirrored.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(length.T)[0, 1]) < 0.03


def test_right_angles_are_four_exact_turns() -> None:
    matrix = transforms(ViewSettings(rotation="right", flip=False, scale=(1.0, 1.0)))
    turns = Counter(map(tuple, matrix.round().astype(int).reshape(-1, 4).tolist()))
    assert set(turns) == {(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)}
    assert all(abs(count - 5000) < 5 * math.sqrt(5000) for count in turns.values())
    np.testing.assert_allclose(matrix, matrix.round(), atol=1e-6)


def test_without_rotation_the_axes_stay() -> None:
    assert (transforms(PLAIN) == np.eye(2)).all()
    flipped = transforms(replace(PLAIN, flip=True))
    assert set(map(tuple, flipped.reshape(-1, 4).tolist())) == {
        (x, 0.0, 0.0, y) for x in (1.0, -1.0) for y in (1.0, -1.0)
    }


def test_dropout_and_noise_are_shared_by_the_tiles_of_a_view() -> None:
    store = store_of(grid_bag(dim=300))
    slides = torch.zeros(40, dtype=torch.int64)
    wanted = replace(PLAIN, feature_dropout=0.25)
    dropped = draw_views(store, slides, settings=wanted, generator=seeded(0)).features
    zero = (dropped == 0).view(40, 5, 300)
    assert (zero.any(dim=1) == zero.all(dim=1)).all()
    assert abs(float(zero.float().mean()) - 0.25) < 0.02
    wanted = replace(PLAIN, feature_noise=0.5)
    drawn = draw(store, slides, settings=wanted, generator=seeded(0))
    noisy = take_views(store, slides, drawn=drawn).features
    added = (noisy - store.features[drawn.rows.flatten()]).view(40, 5, 300)
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=1e-5, rtol=0)
    assert abs(float(added.std()) - 0.5) < 0.02  # the features have deviation one


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tiles": 0}, "at least 1 tile; got 0"),
        ({"scale": (1.3, 0.7)}, "range of positive factors; got 1.3 to 0.7"),
        ({"scale": (0.0, 1.0)}, "range of positive factors"),
        ({"crop": 0.0}, "crop is a fraction above 0"),
        ({"feature_dropout": 1.0}, "feature dropout is a fraction below 1"),
        ({"feature_noise": -0.1}, "feature noise at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        ViewSettings(**wrong)


@pytest.mark.gpu
def test_on_a_gpu_the_same_numbers_make_the_same_view() -> None:
    store = store_of(grid_bag(), grid_bag("beta"))
    slides = torch.tensor([0, 1, 1])
    drawn = draw(store, slides, settings=ViewSettings(), generator=seeded(0))
    there = DrawnViews(rows=drawn.rows.cuda(), transform=drawn.transform.cuda())
    views = take_views(store.to("cuda"), slides, drawn=there)
    torch.testing.assert_close(
        views.coords.cpu(), take_views(store, slides, drawn=drawn).coords, atol=1e-2, rtol=1e-5
    )
    generator = torch.Generator("cuda").manual_seed(0)
    for window in ("scatter", "dense"):
        wanted = ViewSettings(window=window, crop=0.5, feature_noise=0.1)
        drawn_there = draw_views(store.to("cuda"), slides, settings=wanted, generator=generator)
        assert drawn_there.features.device.type == "cuda"
