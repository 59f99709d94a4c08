"""Damage that fuzzing found to end in a traceback, or in several lines."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gigassl.bags.bank import open_bank
from gigassl.bags.bank_info import CARD, FEATURES, SLIDES
from gigassl.errors import SettingsError
from tests.bags.test_bank import make


def overwritten(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def test_a_card_that_is_no_text(tmp_path: Path) -> None:
    folder = make(tmp_path / "bank")
    overwritten(folder / CARD, b'"format"', b'"f\xffrmat"')
    with pytest.raises(SettingsError, match=r"bank\.json is no card of a bank"):
        open_bank(folder)


@pytest.mark.parametrize("value", [[], 5, "x", {}, None])
@pytest.mark.parametrize("key", ["augmentation", "dim"])
def test_a_card_with_another_value(key: str, value: object, tmp_path: Path) -> None:
    folder = make(tmp_path / "bank")
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "info": {**card["info"], key: value}}))
    with pytest.raises(SettingsError):
        open_bank(folder)


@pytest.mark.parametrize("scale", [[1.0], "x", 3])
def test_a_card_with_another_augmentation(scale: object, tmp_path: Path) -> None:
    folder = make(tmp_path / "bank")
    card = json.loads((folder / CARD).read_text())
    first = next(name for name, v in card["info"]["augmentation"].items() if isinstance(v, list))
    card["info"]["augmentation"][first] = scale
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(SettingsError, match=r"bank\.json is damaged"):
        open_bank(folder)


@pytest.mark.parametrize("new", [b"'descr'(", b"'descr';", b"'descr'\x00"])
def test_a_header_of_an_array_that_is_no_record(new: bytes, tmp_path: Path) -> None:
    """Numpy reads it as Python text, and fails in the ways of Python text."""
    folder = make(tmp_path / "bank")
    overwritten(folder / FEATURES, b"'descr':", new)
    with pytest.raises(SettingsError, match=r"features\.npy is truncated, or no array of a bank"):
        open_bank(folder)


def test_a_damaged_page_of_the_slides_is_one_line(tmp_path: Path) -> None:
    folder = make(tmp_path / "bank")
    data = bytearray((folder / SLIDES).read_bytes())
    data[4:24] = b"\xff" * 20
    (folder / SLIDES).write_bytes(data)
    with pytest.raises(SettingsError, match=r"slides\.parquet is damaged") as caught:
        open_bank(folder)
    assert "\n" not in str(caught.value)


def test_a_slide_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = make(tmp_path / "bank")
    slides = pq.read_table(folder / SLIDES)
    names = pa.array([b"\xc6\x28"] + [b"s"] * (len(slides) - 1), pa.binary())
    # a view of bytes as text is not looked at
    texts = pa.Array.from_buffers(pa.string(), len(names), names.buffers())
    at = slides.schema.get_field_index("slide_id")
    pq.write_table(slides.set_column(at, slides.schema.field(at), texts), folder / SLIDES)
    with pytest.raises(SettingsError, match=r"slides\.parquet is damaged"):
        open_bank(folder)
