"""Journal of a bank in the making: what it will hold, then one line a finished slide."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gigassl.bags.bank_info import (
    FORMAT,
    JOURNAL,
    VERSION,
    BankInfo,
    BankSlide,
    info_from_record,
)
from gigassl.digests import plain
from gigassl.errors import SettingsError
from gigassl.files import written_whole


@dataclass(frozen=True, kw_only=True)
class Journal:
    """What the journal of a folder says.

    Attributes:
        info: what all slides share.
        rows: slide_id of each row.
        slides: finished slides by name.
    """

    info: BankInfo
    rows: tuple[str, ...]
    slides: Mapping[str, BankSlide]


def read_journal(folder: Path) -> Journal:
    """Reads the journal; a torn last line, which a kill may leave, does not count.

    Raises:
        SettingsError: damaged, or of another version.
    """
    path = folder / JOURNAL
    *lines, _torn = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        head, *found = [json.loads(line) for line in lines]
        given = (head["format"], head["version"])
        if given != (FORMAT, VERSION):
            raise SettingsError(
                f"{path} has format {given[0]}, version {given[1]}; this gigassl writes {FORMAT}, "
                f"version {VERSION}; choose another -o"
            )
        slides = [BankSlide(**record) for record in found]
        info, rows = info_from_record(head["info"]), tuple(head["rows"])
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"{path} is damaged ({error}); choose another -o") from error
    return Journal(info=info, rows=rows, slides={slide.slide_id: slide for slide in slides})


def save_journal(folder: Path, journal: Journal) -> None:
    """Writes the whole journal, its slides in the order of their rows: equal banks, equal bytes."""
    head = {
        "format": FORMAT, "version": VERSION, "info": plain(journal.info),
        "rows": list(journal.rows),
    }  # fmt: skip
    ordered = sorted(journal.slides.values(), key=lambda slide: slide.row)
    lines = [_line(head), *(_line(plain(slide)) for slide in ordered)]
    with written_whole(folder / JOURNAL) as part:
        part.write_text("".join(lines), encoding="utf-8")


def note_slide(folder: Path, slide: BankSlide) -> None:
    """Appends a finished slide and waits until that is on disk."""
    with (folder / JOURNAL).open("a", encoding="utf-8") as handle:
        handle.write(_line(plain(slide)))
        handle.flush()
        os.fsync(handle.fileno())


def _line(record: Any) -> str:
    return json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
