"""Bank: what was written comes back, in any order and with interruptions; damage is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.bags.bank import BankInfo, BankSlide, open_bank, save_slides
from gigassl.bags.bank_info import CARD, COORDS, FEATURES, JOURNAL, REDUCTION, SLIDES
from gigassl.bags.bank_journal import read_journal
from gigassl.bags.bank_writer import BankWriter
from gigassl.bags.reduction import Reduction, digest_of_reduction, save_reduction
from gigassl.errors import SettingsError, SlideError
from gigassl.tiles.augmentation import AugmentationSettings

INFO = BankInfo(
    encoder="e", encoder_digest="1", encoder_dim=4, dim=4, settings_digest="2", mpp=0.5,
    tile_px=224, tile_um=112.0, augmentations=2, tiles=3, draw="scatter", seed=0,
    augmentation=AugmentationSettings(), provenance={"settings": {"seed": 0}},
)  # fmt: skip
NAMES = ("a", "b", "c", "é/ ü")


def slide(name: str, *, row: int | None = None, **other: Any) -> BankSlide:
    facts = BankSlide(
        slide_id=name, row=NAMES.index(name) if row is None else row, patient_id=f"p-{name}",
        patient_rule="column", file=f"{name}.svs", n_tissue_tiles=7, um_per_px_l0=0.25,
        mpp_source="file", effective_mpp=0.5, width_l0=100, height_l0=50, side_l0=448.0,
        slide_digest="d", inputs_digest="i", encoder_digest="1", settings_digest="2",
        labels={"type": "LUAD", "age": "7"},
    )  # fmt: skip
    return replace(facts, **other)


def arrays(name: str) -> dict[str, Any]:
    generator = np.random.default_rng(list(name.encode()))
    return {
        "features": generator.normal(size=(2, 3, 4)).astype(np.float32),
        "coords": generator.integers(0, 2**31, size=(2, 3, 2)),
    }


def make(folder: Path, *, names: tuple[str, ...] = NAMES, info: BankInfo = INFO) -> Path:
    folder.mkdir(exist_ok=True)
    with BankWriter(folder, info, slide_ids=NAMES) as bank:
        bank.begin(keep=())
        for name in names:
            bank.write(slide(name), **arrays(name))
        bank.finish()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    bank = open_bank(make(tmp_path / "bank"))
    assert bank.info == INFO
    assert bank.slides == tuple(slide(name) for name in NAMES)
    assert len(bank) == 4
    assert bank.failed == ()
    assert (bank.features.shape, bank.coords.shape) == ((4, 2, 3, 4), (4, 2, 3, 2))
    for row, name in enumerate(NAMES):
        assert np.array_equal(bank.features[row], arrays(name)["features"].astype(np.float16))
        assert np.array_equal(bank.coords[row], arrays(name)["coords"])
    # neither a copy nor a warning (warnings are errors here), and the file stays as it is
    shared = torch.from_numpy(bank.features)
    assert shared.data_ptr() == bank.features.ctypes.data
    before = (tmp_path / "bank" / FEATURES).read_bytes()
    shared.zero_()
    assert (tmp_path / "bank" / FEATURES).read_bytes() == before


def test_numpy_and_pyarrow_read_it_without_us(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    folder = make(tmp_path / "bank")
    assert np.load(folder / FEATURES, mmap_mode="r").dtype == np.float16
    assert np.load(folder / COORDS).dtype == np.int32
    table = pq.read_table(folder / SLIDES)
    assert table["slide_id"].to_pylist() == list(NAMES)
    assert dict(table["labels"][0].as_py()) == {"type": "LUAD", "age": "7"}


@settings(max_examples=30)
@given(data=st.data())
def test_any_order_and_interruption_gives_the_same_bytes(data: st.DataObject) -> None:
    """Slides come in any order, in sittings that may end inside a row or a journal line."""
    order = data.draw(st.permutations(NAMES))
    cuts = sorted(data.draw(st.sets(st.integers(1, 3))))
    with TemporaryDirectory() as place:
        folder = Path(place) / "bank"
        folder.mkdir()
        for start, end in zip((0, *cuts), (*cuts, 4), strict=True):
            with BankWriter(folder, INFO, slide_ids=NAMES) as bank:
                assert set(bank.slides) == set(order[:start])
                bank.begin(keep=bank.slides)
                for name in order[start:end]:
                    bank.write(slide(name), **arrays(name))
                if end == 4:
                    bank.finish()
                    break
            _torn(folder, data=data, row=NAMES.index(order[end]))
        assert contents(folder) == contents(make(Path(place) / "whole"))


def _torn(folder: Path, *, data: st.DataObject, row: int) -> None:
    """What a kill inside the next slide may leave behind."""
    if data.draw(st.booleans()):
        with (folder / FEATURES).open("r+b") as handle:
            handle.seek(128 + row * 2 * 3 * 4 * 2)
            handle.write(b"\x01" * data.draw(st.integers(1, 48)))
    line = json.dumps({"slide_id": NAMES[row]})
    with (folder / JOURNAL).open("a") as journal:
        journal.write(line[: data.draw(st.integers(0, len(line)))])


def test_a_slide_that_failed_has_zeros_and_no_record(tmp_path: Path) -> None:
    folder = make(tmp_path / "bank", names=("a", "c"))
    bank = open_bank(folder)
    assert [s.slide_id for s in bank.slides] == ["a", "c"]
    assert [s.row for s in bank.slides] == [0, 2]
    assert bank.failed == ("b", "é/ ü")
    assert not bank.features[1].any()

    # finished once, failing now
    both = make(tmp_path / "both", names=("a", "b", "c"))
    with BankWriter(both, INFO, slide_ids=NAMES) as again:
        again.begin(keep=("a", "c"))
        with pytest.raises(SettingsError, match="lacks 2 of 4 slides"):
            open_bank(both)
        again.finish()
    assert contents(both) == contents(folder)


def test_new_labels_are_taken_over(tmp_path: Path) -> None:
    folder = make(tmp_path / "bank")
    with BankWriter(folder, INFO, slide_ids=NAMES) as bank:
        bank.finish(labels={"a": {"type": "LUSC"}})
    first, second, *_ = open_bank(folder).slides
    assert (first.labels, second.labels["type"]) == ({"type": "LUSC"}, "LUAD")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e6])
def test_what_float16_cannot_hold_is_refused(tmp_path: Path, bad: float) -> None:
    wrong = arrays("a")
    wrong["features"][1, 2, 3] = bad
    with BankWriter(tmp_path, INFO, slide_ids=NAMES) as bank:
        with pytest.raises(SlideError, match=r"NaN, infinite or above 65504.*fp32"):
            bank.write(slide("a"), **wrong)
        assert not bank.slides
    assert read_journal(tmp_path).slides == {}


def test_arrays_of_another_shape_are_a_mistake_of_ours(tmp_path: Path) -> None:
    with BankWriter(tmp_path, INFO, slide_ids=NAMES) as bank:
        wrong = arrays("a")
        with pytest.raises(ValueError, match="does not fit a bank of"):
            bank.write(slide("a"), features=wrong["features"][:, :2], coords=wrong["coords"][:, :2])
        with pytest.raises(ValueError, match="does not fit a bank of"):
            bank.write(slide("a", row=1), **wrong)


def test_other_settings_and_other_slides_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "bank")
    with pytest.raises(SettingsError, match=r"a bank of other settings.*2, now 3"):
        BankWriter(folder, replace(INFO, settings_digest="3"), slide_ids=NAMES)
    with pytest.raises(SettingsError, match=r"2 are new and 1 of its own.*gigassl merge"):
        BankWriter(folder, INFO, slide_ids=[*NAMES[1:], "x", "y"])
    assert len(open_bank(folder)) == 4


def cut(name: str, *, by: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-by] if by > 0 else whole + b"\0" * -by)

    return damage


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def card(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        found = json.loads((folder / CARD).read_text())
        (folder / CARD).write_text(json.dumps(found | changes))

    return damage


def slides(*found: BankSlide) -> Callable[[Path], None]:
    return lambda folder: save_slides(found, folder / SLIDES)


def array(values: np.ndarray[Any, Any]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / FEATURES, values)


GOOD = [slide(name) for name in NAMES]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut(FEATURES, by=1), "features.npy is truncated: 319 bytes, expected 320"),
        (cut(FEATURES, by=150), "features.npy is truncated: 170 bytes"),
        (cut(FEATURES, by=-7), "features.npy is too long"),
        (cut(COORDS, by=5), "coords.npy is truncated"),
        (cut(FEATURES, by=315), "features.npy is truncated, or no array of a bank"),
        (cut(SLIDES, by=9), "slides.parquet is damaged"),
        (cut(CARD, by=9), "bank.json is no card of a bank"),
        (without(FEATURES), "lacks features.npy: no such file"),
        (without(COORDS), "lacks coords.npy: no such file"),
        (without(SLIDES), "lacks slides.parquet: no such file"),
        (without(CARD), "is unfinished: it lacks 0 of 4 slides; run the same `gigassl encode`"),
        (card(version=2), "format gigassl-bank, version 2; this gigassl reads gigassl-bank, ve"),
        (card(format="other"), "format other"),
        (card(info={}), "bank.json is damaged"),
        (card(rows=["a", "c", "b", "é/ ü"]), "name other rows"),
        (card(rows=[*NAMES, "z"]), "lacks 1 of the 5 slides that bank.json names .z."),
        (slides(*GOOD[:2]), "lacks 2 of the 4 slides"),
        (slides(*GOOD, slide("a", slide_id="z")), "has 1 more of the 4 slides"),
        (slides(*GOOD[:3], slide("é/ ü", encoder_digest="9")), "with two tile encoders: 'é/ ü'"),
        (slides(*GOOD[:3], slide("é/ ü", settings_digest="9")), "with two settings: 'é/ ü'"),
        (array(np.zeros((4, 2, 3, 4), np.float32)), r"holds float32 \[4, 2, 3, 4\]"),
        (array(np.zeros((3, 2, 3, 4), np.float16)), r"holds float16 \[3, 2, 3, 4\]"),
        (array(np.zeros((4, 2, 3, 4), np.float16).T.reshape(4, 3, 2, 4)), r"\[4, 3, 2, 4\]"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], sentence: str) -> None:
    folder = make(tmp_path / "bank")
    damage(folder)
    with pytest.raises(SettingsError, match=sentence):
        open_bank(folder)


def test_what_is_no_bank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no bank at"):
        open_bank(tmp_path / "absent")
    with pytest.raises(SettingsError, match=r"is no bank: it holds no bank\.json"):
        open_bank(tmp_path)
    with pytest.raises(SettingsError, match="holds no slide: all 4 failed"):
        open_bank(make(tmp_path / "empty", names=()))


def test_a_truncated_array_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = make(tmp_path / "bank", names=("a",))
    cut(FEATURES, by=4)(folder)
    with pytest.raises(SettingsError, match="truncated or was written by another program"):
        BankWriter(folder, INFO, slide_ids=NAMES)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "bank")
    text = (folder / JOURNAL).read_text()
    (folder / JOURNAL).write_text(text.replace('"row": 1', '"rwo": 1'))
    with pytest.raises(SettingsError, match=r"journal\.jsonl is damaged"):
        read_journal(folder)
    (folder / JOURNAL).write_text(text.replace('"version": 1', '"version": 7'))
    with pytest.raises(SettingsError, match="version 7; this gigassl writes"):
        read_journal(folder)


def test_the_reduction_belongs_to_the_bank(tmp_path: Path) -> None:
    reduction = Reduction(mean=np.zeros(8, np.float32), components=np.eye(4, 8, dtype=np.float32))
    info = replace(INFO, reduction_digest=digest_of_reduction(reduction), encoder_dim=8)
    folder = make(tmp_path / "bank", info=info)
    with pytest.raises(SettingsError, match=r"no checkpoint at .*reduction\.safetensors"):
        open_bank(folder)
    save_reduction(folder / REDUCTION, reduction, encoder_digest="1")
    found = open_bank(folder).reduction
    assert found is not None
    assert np.array_equal(found.components, reduction.components)
    other = Reduction(mean=reduction.mean + 1, components=reduction.components)
    save_reduction(folder / REDUCTION, other, encoder_digest="1")
    with pytest.raises(SettingsError, match="the bank was made with"):
        open_bank(folder)


def test_the_published_bank_of_tcga_needs_at_most_78_gb() -> None:
    info = replace(INFO, augmentations=50, tiles=256, dim=256)
    assert info.n_bytes(11_642) == 11_642 * 50 * 256 * (256 * 2 + 2 * 4) <= 78e9


def test_the_size_said_is_the_size_on_disk(tmp_path: Path) -> None:
    folder = make(tmp_path / "bank")
    headers = 2 * 128
    assert sum((folder / n).stat().st_size for n in (FEATURES, COORDS)) - headers == INFO.n_bytes(4)
