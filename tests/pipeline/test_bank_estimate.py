"""What a bank will need is said before it is begun, and a full disk is refused."""

from pathlib import Path

import pytest

from gigassl.bags.bank_draws import DrawSettings
from gigassl.files import MachineError
from gigassl.pipeline.bank import BankSettings, estimate_bank
from gigassl.pipeline.bank_estimate import BankEstimate, free_bytes, gigabytes
from gigassl.slides.cohort import Cohort, read_cohort


def test_too_little_room_is_refused_with_both_numbers() -> None:
    short = BankEstimate(n_slides=9, n_bytes=77_488_000_000, free_bytes=5_000_000, seconds=None)
    with pytest.raises(MachineError, match=r"needs 77\.5 GB more.*disk of bank has 5\.0 MB free"):
        short.refuse_full_disk(Path("bank"))
    assert "time unknown" in short.sentence()
    BankEstimate(n_slides=9, n_bytes=5, free_bytes=5, seconds=1.0).refuse_full_disk(Path("bank"))


def test_room_is_that_of_the_disk_where_the_folder_will_be(tmp_path: Path) -> None:
    near = free_bytes(tmp_path)
    assert abs(free_bytes(tmp_path / "not" / "yet") - near) < 1e9
    assert gigabytes(near)


def test_size_and_time_follow_the_settings(slides: Path, tmp_path: Path) -> None:
    encoder = "random:resnet18@layer1"
    cohort = read_cohort(slides)
    small, large = (
        estimate_bank(
            cohort, tmp_path / "bank", encoder=encoder,
            settings=BankSettings(draws=DrawSettings(augmentations=a, tiles=16)),
        )
        for a in (1, 2000)
    )  # fmt: skip
    assert small.n_bytes == 3 * 16 * (2 * 64 + 8)
    assert large.n_bytes == 2000 * small.n_bytes
    assert small.seconds is not None
    assert large.seconds is not None
    assert large.seconds > 20 * small.seconds
    assert not (tmp_path / "bank").exists(), "an estimate writes nothing"
    reduced = estimate_bank(
        cohort, tmp_path / "bank", encoder=encoder, settings=BankSettings(reduce="pca:8")
    )
    assert reduced.n_bytes == 3 * 50 * 256 * (2 * 8 + 8)


def test_a_cohort_of_unreadable_slides_has_no_time(tmp_path: Path) -> None:
    (tmp_path / "s.svs").write_text("no slide")
    settings = BankSettings(draws=DrawSettings(augmentations=1, tiles=1))
    encoder = "random:resnet18@layer1"
    found = estimate_bank(tmp_path, tmp_path / "b", encoder=encoder, settings=settings)
    assert (found.n_slides, found.seconds) == (1, None)
    none = estimate_bank(Cohort(slides=()), tmp_path / "b", encoder=encoder, settings=settings)
    assert (none.n_slides, none.n_bytes, none.seconds) == (0, 0, None)
