"""Tiles of labelled images: equal shares of tasks and classes, groups held out, bad images."""

import logging
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.tiles.labelled_tasks import FileLabels, read_tasks
from gigassl.tiles.pretrain.held_out import divided
from gigassl.tiles.pretrain.labelled_source import (
    TaskTiles,
    dealt_strata,
    held_out_groups,
    tiles_of_task,
)
from gigassl.tiles.pretrain.settings import SamplingSettings, TilePretrainSettings
from gigassl.tiles.pretrain.source import BatchPlan, ChoosingTiles, TileSource
from tests.tiles.labelled_folders import class_folders

STILL = SamplingSettings(jitter_mpp=0.0)
SIDE = 32


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two tasks of two and three classes, some of them rare."""
    return [
        class_folders(tmp_path / "lymph", {"normal": 12, "tumour": 4}, seed=1),
        class_folders(tmp_path / "tissue", {"fat": 9, "mucus": 4, "muscle": 4}, seed=2),
    ]


def source_of(folders: list[Path], *, tile_px: int = SIDE, **options: int) -> TaskTiles:
    tasks = read_tasks(folders, group_pattern=r"g\d")
    return TaskTiles(tasks, tile_px=tile_px, settings=STILL, **options)


def test_it_is_a_tile_source_that_knows_what_is_asked(folders: list[Path]) -> None:
    source = source_of(folders)
    assert isinstance(source, TileSource)
    assert isinstance(source, ChoosingTiles)
    assert source.n_tiles == len(source.names) == len(source.labels.task) == 33
    assert set(source.patient_ids) == {"g0", "g1", "g2", "g3"}


def test_batches_hold_tasks_and_classes_in_equal_shares(folders: list[Path]) -> None:
    source = source_of(folders)
    for batch in source.batches(BatchPlan(last=3, size=24, seed=1)):
        strata = Counter(source.labels.stratum[batch.file.numpy()].tolist())
        assert strata == {0: 6, 1: 6, 2: 4, 3: 4, 4: 4}
    (uneven,) = source.batches(BatchPlan(last=1, size=23, seed=1))
    tasks = Counter(source.labels.task[uneven.file.numpy()].tolist())
    assert tasks == {0: 12, 1: 11}


def test_every_image_of_a_class_is_drawn_equally_often(folders: list[Path]) -> None:
    source = source_of(folders)
    drawn = torch.cat([b.file for b in source.batches(BatchPlan(last=300, size=24, seed=1))])
    counts = np.bincount(drawn.numpy(), minlength=33)
    for stratum in range(5):
        own = counts[source.labels.stratum == stratum]
        assert own.std() / own.mean() < 0.15


def test_in_memory_or_not_and_shared_or_not_batches_are_the_same(folders: list[Path]) -> None:
    plan = BatchPlan(last=3, size=24, seed=5)
    here = list(source_of(folders).batches(plan))
    read = list(source_of(folders, memory_bytes=0).batches(plan))
    halves = [list(source_of(folders).batches(replace(plan, rank=r, world=2))) for r in (0, 1)]
    for k, batch in enumerate(here):
        assert torch.equal(batch.tiles, read[k].tiles)
        for rank, half in enumerate(halves):
            assert torch.equal(batch.tiles[rank::2], half[k].tiles)
    late = list(source_of(folders).batches(replace(plan, first=2)))
    assert torch.equal(late[0].tiles, here[2].tiles)


def test_places_of_images_that_cannot_be_read_go_to_others_of_their_class(
    folders: list[Path],
) -> None:
    for path in sorted((folders[0] / "tumour").iterdir())[:3]:
        path.write_bytes(path.read_bytes()[:200])
    (folders[1] / "fat" / "g9_x.png").write_bytes(b"no image at all")
    source = source_of(folders)
    assert [file.name for file in source.unreadable] == ["tissue/fat/g9_x.png"]
    batches = list(source.batches(BatchPlan(last=2, size=24, seed=1)))
    for batch in batches:
        strata = Counter(source.labels.stratum[batch.file.numpy()].tolist())
        assert strata == {0: 6, 1: 6, 2: 4, 3: 4, 4: 4}
    named = [file.name for batch in batches for file in batch.unreadable]
    assert len(named) == 3
    assert all(name.startswith("lymph/tumour/") for name in named)


def test_a_class_without_an_image_that_can_be_read_is_refused(folders: list[Path]) -> None:
    for path in (folders[0] / "tumour").iterdir():
        path.write_bytes(b"no image at all")
    with pytest.raises(SettingsError, match="not one image of class 'tumour' of 'lymph'"):
        source_of(folders)


def test_tasks_of_which_only_some_would_be_enlarged_are_refused(
    folders: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = class_folders(tmp_path / "small", {"a": 3, "b": 3}, side=20)
    with pytest.raises(SettingsError, match=r"'small' are 20 px wide .* 32 px: at 32 px only"):
        source_of([*folders, small])
    assert source_of([*folders, small], tile_px=20).tile_px == 20
    with caplog.at_level(logging.WARNING, logger="gigassl"):
        source_of(folders, tile_px=40)  # all of them
    assert "33 of 33 images are smaller than 40 px and are enlarged" in caplog.text


def test_the_digest_names_labels_and_groups(folders: list[Path]) -> None:
    digests = {source_of(folders).digest, source_of(folders[::-1]).digest}
    digests.add(TaskTiles(read_tasks(folders), tile_px=SIDE, settings=STILL).digest)
    moved = sorted((folders[0] / "normal").iterdir())[0]
    moved.rename(folders[0] / "tumour" / moved.name.replace("_0", "_77"))
    digests.add(source_of(folders).digest)
    assert len(digests) == 4


def test_groups_are_held_out_of_all_tasks_with_every_class_on_both_sides(
    folders: list[Path],
) -> None:
    source = source_of(folders)
    settings = TilePretrainSettings(method="multitask", validation=0.25, schedule="plateau")
    learned, held = divided(source, settings)
    assert held is not None
    assert not set(learned.patient_ids) & set(held.patient_ids)
    assert sorted([*learned.names, *held.names]) == sorted(source.names)
    for part in (learned, held):
        files = [source.names.index(name) for name in part.names]
        assert set(source.labels.stratum[files].tolist()) == {0, 1, 2, 3, 4}
        (batch,) = part.batches(BatchPlan(last=1, size=8))
        # numbers are those of the whole source
        assert set(batch.file.tolist()) <= set(files)
        assert Counter(source.labels.task[batch.file.numpy()].tolist()) == {0: 4, 1: 4}


def test_a_class_of_one_group_cannot_be_held_out(folders: list[Path]) -> None:
    for path in (folders[1] / "mucus").iterdir():
        path.rename(path.with_name(path.name.replace(path.name[:2], "g0", 1)))
    source = source_of(folders)
    with pytest.raises(SettingsError, match="class 'mucus' of 'tissue' is in the images of one gr"):
        source.held_out(0.2, rng=np.random.default_rng(0))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=60),
    st.floats(0.05, 0.5),
    st.integers(0, 5),
)
def test_held_out_groups_leave_every_class_on_both_sides_or_say_why(
    files: list[tuple[int, int]], share: float, seed: int
) -> None:
    groups = [f"g{group}" for group, _ in files]
    label = np.array([each for _, each in files], np.int64)
    labels = FileLabels(
        tasks=("t",), classes=(("a", "b", "c", "d"),), task=np.zeros(len(files), np.int64),
        label=label,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    try:
        held = held_out_groups(groups, labels, share=share, rng=rng)
    except SettingsError:
        of_class = [{f"g{g}" for g, each in files if each == c} for c in set(label.tolist())]
        assert not any(
            all(own & set(some) and own - set(some) for own in of_class)
            for n in range(len(set(groups)))
            for some in combinations(sorted(set(groups)), n)
        )
        return
    for each in set(label.tolist()):
        own = {g for g, k in zip(groups, label, strict=True) if k == each}
        assert own & held
        assert own - held


def test_held_out_shares_are_those_asked_for_where_every_image_is_a_group() -> None:
    label = np.repeat(np.arange(3), [100, 40, 11]).astype(np.int64)
    labels = FileLabels(
        tasks=("t",), classes=(("a", "b", "c"),), task=np.zeros(151, np.int64), label=label
    )
    groups = [f"g{k}" for k in range(151)]
    held = held_out_groups(groups, labels, share=0.2, rng=np.random.default_rng(3))
    counts = Counter(label[k] for k in range(151) if groups[k] in held)
    assert counts == {0: 20, 1: 8, 2: 2}
    again = held_out_groups(groups, labels, share=0.2, rng=np.random.default_rng(3))
    assert again == held


@given(st.integers(1, 200), st.integers(1, 9))
def test_shares_of_tasks_differ_by_one_at_most(size: int, n_tasks: int) -> None:
    shares = tiles_of_task(size, n_tasks=n_tasks)
    assert sum(shares) == size
    assert max(shares) - min(shares) <= 1


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(8, 60))
def test_classes_of_a_task_differ_by_one_at_most(n_classes: list[int], size: int) -> None:
    n_tasks = len(n_classes)
    task = np.repeat(np.arange(n_tasks), n_classes).astype(np.int64)
    labels = FileLabels(
        tasks=tuple("abcd"[:n_tasks]), classes=tuple(tuple("vwxyz"[:n]) for n in n_classes),
        task=task, label=np.concatenate([np.arange(n) for n in n_classes]).astype(np.int64),
    )  # fmt: skip
    strata = dealt_strata(labels, size=size, rng=np.random.default_rng(0))
    counts = np.bincount(strata, minlength=len(task))
    for number in range(n_tasks):
        own = counts[task == number]
        assert own.max() - own.min() <= 1
        assert own.sum() == tiles_of_task(size, n_tasks=n_tasks)[number]
