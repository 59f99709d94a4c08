"""Banks merged in any division are the bank made in one go."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.bags.bank import open_bank
from gigassl.bags.bank_writer import BankWriter
from gigassl.errors import SettingsError
from gigassl.pipeline.bank_merge import merge_banks
from gigassl.pipeline.failures import Failure, save_failures
from tests.bags.test_bank import INFO, NAMES, arrays, make, slide


def bank_of(folder: Path, names: list[str], *, failed: set[str]) -> Path:
    folder.mkdir()
    with BankWriter(folder, INFO, slide_ids=names) as bank:
        for name in names:
            if name not in failed:
                own = slide(name, row=bank.row_of(name))
                bank.write(own, **arrays(name))
        bank.finish()
    listed = [
        Failure(slide_id=name, path="x", stage="open", reason="broken")
        for name in names if name in failed
    ]  # fmt: skip
    save_failures(listed, folder / "failures.csv")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


@settings(max_examples=30)
@given(data=st.data())
def test_any_division_merged_is_one_bank(data: st.DataObject) -> None:
    failed = data.draw(st.sets(st.sampled_from(NAMES), max_size=2))
    part_of = {name: data.draw(st.integers(0, 2)) for name in NAMES}
    groups = [[name for name in NAMES if part_of[name] == part] for part in range(3)]
    # a part whose slides all failed is no bank
    groups = [group for group in groups if set(group) - failed]
    names = sorted(name for group in groups for name in group)
    with TemporaryDirectory() as place:
        folder = Path(place)
        parts = [bank_of(folder / str(i), g, failed=failed) for i, g in enumerate(groups)]
        whole = bank_of(folder / "whole", names, failed=failed)
        result = merge_banks(data.draw(st.permutations(parts)), folder / "merged")
        assert contents(folder / "merged") == contents(whole)
        assert {failure.slide_id for failure in result.failures} == failed & set(names)
        assert result.n_reused == len(open_bank(whole))


def test_a_slide_that_failed_in_one_part_and_not_in_another_is_there(tmp_path: Path) -> None:
    first = bank_of(tmp_path / "first", ["a", "b"], failed={"b"})
    second = bank_of(tmp_path / "second", ["b", "c"], failed=set())
    result = merge_banks([first, second], tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(
        bank_of(tmp_path / "whole", ["a", "b", "c"], failed=set())
    )
    assert result.failures == ()


def test_other_versions_are_kept_whatever_the_order(tmp_path: Path) -> None:
    make(tmp_path / "old", names=("a",))
    newer = replace(INFO, provenance={**INFO.provenance, "versions": {"torch": "9"}})
    make(tmp_path / "new", names=("b",), info=newer)
    parts = [tmp_path / "old", tmp_path / "new"]
    merge_banks(parts, tmp_path / "one")
    merge_banks(parts[::-1], tmp_path / "other")
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    assert len(open_bank(tmp_path / "one").info.provenance["variants"]) == 2


def test_what_cannot_be_merged_is_refused(tmp_path: Path) -> None:
    bank = make(tmp_path / "bank")
    with pytest.raises(SettingsError, match="give each bank to merge once"):
        merge_banks([bank, bank], tmp_path / "out")
    with pytest.raises(SettingsError, match="at least one"):
        merge_banks([], tmp_path / "out")
    (bank / "bank.json").unlink()
    with pytest.raises(SettingsError, match="unfinished"):
        merge_banks([bank], tmp_path / "out")
    assert not (tmp_path / "out").exists()
