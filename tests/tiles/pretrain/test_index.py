from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.index import TileIndex, chosen, joined, load_index, save_index
from tests.tiles.pretrain.index_of import one_slide, slides_of


def assert_same(one: TileIndex, other: TileIndex) -> None:
    for field in fields(TileIndex):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
        elif field.name == "paths":
            assert [p.resolve() for p in mine] == [p.resolve() for p in theirs]
        else:
            assert mine == theirs


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    index = slides_of(3, 1, 5)
    index = replace(index, paths=tuple(tmp_path / path for path in index.paths))
    (tmp_path / "run").mkdir()
    save_index(index, tmp_path / "run" / "i.npz")
    assert_same(load_index(tmp_path / "run" / "i.npz"), index)
    assert load_index(tmp_path / "run" / "i.npz").digest == index.digest


def test_the_file_holds_no_absolute_path_and_moves_with_its_slides(tmp_path: Path) -> None:
    index = slides_of(3, 1)
    for name in ("here", "there"):
        (tmp_path / name / "slides").mkdir(parents=True)
        paths = tuple(tmp_path / name / path for path in index.paths)
        save_index(replace(index, paths=paths), tmp_path / name / "i.npz")
    here, there = (tmp_path / name / "i.npz" for name in ("here", "there"))
    assert here.read_bytes() == there.read_bytes()
    assert load_index(there).paths[0] == tmp_path / "there" / "slides" / "s0.svs"


def test_its_digest_names_everything_but_the_paths() -> None:
    index = slides_of(3, 1)
    assert replace(index, paths=(Path("x"), Path("y"))).digest == index.digest
    others = [
        replace(index, slide_digests=("x", "y")),
        replace(index, patient_ids=("x", "y")),
        replace(index, coords=index.coords + 1),
        replace(index, tile_px=99),
        replace(index, target_mpp=0.51),
        replace(index, settings_digest="other"),
        replace(index, mpp_l0=index.mpp_l0 * 2),
    ]
    assert len({index.digest, *(other.digest for other in others)}) == len(others) + 1


def test_slides_are_chosen_and_joined_with_their_tiles() -> None:
    index = slides_of(3, 1, 5)
    parts = [chosen(index, [k]) for k in range(3)]
    assert [len(part.coords) for part in parts] == [3, 1, 5]
    assert_same(joined(parts), index)
    backwards = chosen(index, [2, 0])
    assert backwards.slide_ids == ("s2", "s0")
    assert_same(chosen(backwards, [1]), one_slide("s0", kept=np.ones((1, 3), bool)))


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off", b"hello"])
def test_what_is_no_index_says_so(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "i.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match="no index of tiles, or damaged"):
        load_index(path)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "i.npz", version=99)
    with pytest.raises(SettingsError, match="another version"):
        load_index(tmp_path / "i.npz")
