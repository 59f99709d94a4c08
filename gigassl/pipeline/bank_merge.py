"""Merging banks: the parts of a job array, or cohorts encoded one after another, into one bank."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gigassl.bags.bank import Bank, open_bank
from gigassl.bags.bank_info import CARD, FAILURES, JOURNAL, REDUCTION
from gigassl.bags.bank_writer import BankWriter
from gigassl.errors import SettingsError
from gigassl.files import written_whole
from gigassl.pipeline.bank_estimate import BankEstimate, free_bytes
from gigassl.pipeline.encode_result import EncodeResult
from gigassl.pipeline.failures import read_failures, save_failures
from gigassl.pipeline.output import claimed
from gigassl.vectors.merge import differing_settings, merged_provenance


def merge_banks(folders: Sequence[Path], out: Path) -> EncodeResult:
    """One bank of several, the same bytes as one made of all slides at once.

    Raises:
        SettingsError: no bank, one that is unfinished or damaged, different settings (they are
            named), a slide in two banks, or an output folder that holds a bank.
        MachineError: too little room on the disk, read-only folder.
    """
    if len({*folders}) < len(folders) or not folders:
        raise SettingsError("give each bank to merge once, and at least one")
    if (out / JOURNAL).exists():
        raise SettingsError(f"{out} holds a bank already; choose another -o")
    banks = {folder: open_bank(folder) for folder in folders}
    first = banks[folders[0]]
    for folder in folders[1:]:
        _refuse_difference(folders[0], folder, banks=banks)
    holder = _holders(banks)
    failed = {name for bank in banks.values() for name in bank.failed}
    names = sorted({*holder, *failed})
    n_bytes, room = first.info.n_bytes(len(names)), free_bytes(out)
    estimate = BankEstimate(n_slides=len(names), n_bytes=n_bytes, free_bytes=room, seconds=None)
    estimate.refuse_full_disk(out)
    provenance = merged_provenance([bank.info.provenance for bank in banks.values()])
    info = replace(first.info, provenance=provenance)
    with claimed(out / CARD):
        if first.reduction is not None:
            with written_whole(out / REDUCTION) as part:
                shutil.copyfile(folders[0] / REDUCTION, part)
        with BankWriter(out, info, slide_ids=names) as merged:
            for folder in folders:
                _copy(banks[folder], merged)
            merged.finish()
        failures = [f for folder in folders for f in read_failures(folder / FAILURES)]
        failures = [failure for failure in failures if failure.slide_id not in holder]
        save_failures(failures, out / FAILURES)
    return EncodeResult(
        kind="bank",
        folder=out,
        failures_file=out / FAILURES,
        n_new=0,
        n_reused=len(holder),
        failures=tuple(failures),
    )


def _copy(bank: Bank, merged: BankWriter) -> None:
    for slide in bank.slides:
        moved = replace(slide, row=merged.row_of(slide.slide_id))
        merged.write(moved, features=bank.features[slide.row], coords=bank.coords[slide.row])


def _refuse_difference(first: Path, other: Path, *, banks: Mapping[Path, Bank]) -> None:
    ours, theirs = banks[first].info, banks[other].info
    if ours.settings_digest == theirs.settings_digest:
        return
    differing = differing_settings(ours.provenance, theirs.provenance)
    said = ", ".join(f"{name} ({mine} and {its})" for name, (mine, its) in differing.items())
    raise SettingsError(
        f"the banks {first} and {other} were made with different settings: {said}; make them with "
        "the same (for a reduction, pass the first bank's reduction.safetensors to --reduce)"
    )


def _holders(banks: Mapping[Path, Bank]) -> dict[str, Path]:
    """Which bank holds each slide."""
    found: dict[str, Path] = {}
    for folder, bank in banks.items():
        for slide in bank.slides:
            other = found.setdefault(slide.slide_id, folder)
            if other != folder:
                raise SettingsError(
                    f"the slide '{slide.slide_id}' stands in two banks, {other} and {folder}; "
                    "leave one of them out"
                )
    return found
