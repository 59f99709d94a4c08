"""Bank: augmented bags of a whole cohort in one memory-mapped folder, one row a slide."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float16, Int32

from gigassl.bags.bank_info import (
    CARD,
    COORDS,
    FEATURES,
    FORMAT,
    JOURNAL,
    REDUCTION,
    SLIDES,
    VERSION,
    BankInfo,
    BankSlide,
    info_from_record,
)
from gigassl.bags.bank_journal import read_journal
from gigassl.bags.reduction import Reduction, digest_of_reduction, load_reduction
from gigassl.digests import plain
from gigassl.errors import SettingsError
from gigassl.files import MachineError, machine_error

__all__ = ["Bank", "BankInfo", "BankSlide", "open_bank"]


@dataclass(frozen=True, kw_only=True)
class Bank:
    """An open bank.

    Attributes:
        features: tile features; rows of slides that failed hold zeros and have no ``BankSlide``.
        coords: (x, y) of each tile's top-left corner, level-0 px.
        slides: the slides that the bank holds, in the order of their rows.
        info: what they share.
        reduction: what made the features narrower, if anything.
        failed: slides of the cohort that could not be encoded.
    """

    features: Float16[np.ndarray, "slide augmentation tile dim"]
    coords: Int32[np.ndarray, "slide augmentation tile 2"]
    slides: tuple[BankSlide, ...]
    info: BankInfo
    reduction: Reduction | None = None
    failed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.slides)


def open_bank(folder: Path) -> Bank:
    """Opens a bank; its arrays stay on disk, and what is written to them stays in memory.

    Raises:
        SettingsError: no bank, unfinished (lacks slides), of another version, a file that is
            missing, truncated or of the wrong shape, or slides of two encoders or settings.
        MachineError: no file handles left.
    """
    card = _card(folder)
    try:
        info, rows = info_from_record(card["info"]), tuple(map(str, card["rows"]))
        failed = tuple(map(str, card["failed"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"{folder / CARD} is damaged: {error!r}; make the bank again"
        ) from error
    slides = read_slides(folder / SLIDES)
    _refuse_lack(folder, slides, expected={*rows} - {*failed})
    _refuse_mixture(folder, slides, info=info)
    if any(rows[slide.row] != slide.slide_id for slide in slides):
        raise SettingsError(f"{folder}: {SLIDES} and {CARD} name other rows; make the bank again")
    if not slides:
        raise SettingsError(f"the bank {folder} holds no slide: all {len(rows)} failed")
    features = _mapped(folder / FEATURES, shape=info.feature_shape(len(rows)), dtype=np.float16)
    coords = _mapped(folder / COORDS, shape=info.coord_shape(len(rows)), dtype=np.int32)
    return Bank(
        features=features, coords=coords, slides=tuple(slides), info=info, failed=failed,
        reduction=_reduction(folder, info),
    )  # fmt: skip


def card_text(info: BankInfo, *, rows: Sequence[str], failed: Sequence[str]) -> str:
    """What ``bank.json`` holds."""
    card = {
        "format": FORMAT, "version": VERSION, "info": plain(info), "rows": list(rows),
        "failed": list(failed),
    }  # fmt: skip
    return json.dumps(card, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _card(folder: Path) -> Mapping[str, Any]:
    if not folder.is_dir():
        raise SettingsError(f"no bank at {folder}; make one with `gigassl encode --augmentations`")
    path = folder / CARD
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise _unfinished(folder) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        card: dict[str, Any] = json.loads(content.decode("utf-8"))
        given = (card["format"], card["version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(f"{path} is no card of a bank; make the bank again") from error
    if given != (FORMAT, VERSION):
        raise SettingsError(
            f"{path} has format {given[0]}, version {given[1]}; this gigassl reads {FORMAT}, "
            f"version {VERSION}"
        )
    return card


def _unfinished(folder: Path) -> SettingsError:
    if not (folder / JOURNAL).is_file():
        return SettingsError(f"{folder} is no bank: it holds no {CARD}")
    journal = read_journal(folder)
    lacks = len(journal.rows) - len(journal.slides)
    return SettingsError(
        f"the bank {folder} is unfinished: it lacks {lacks} of {len(journal.rows)} slides; run the "
        "same `gigassl encode` again, which goes on where it stopped"
    )


def _refuse_lack(folder: Path, slides: Sequence[BankSlide], *, expected: set[str]) -> None:
    lacking = sorted(expected - {slide.slide_id for slide in slides})
    strange = sorted({slide.slide_id for slide in slides} - expected)
    if lacking or strange or len(slides) != len(expected):
        what = f"lacks {len(lacking)}" if lacking else f"has {len(strange)} more"
        name = next(iter((*lacking, *strange)), "a slide twice")
        raise SettingsError(
            f"{folder / SLIDES} {what} of the {len(expected)} slides that {CARD} names ({name}); "
            "make the bank again"
        )


def _refuse_mixture(folder: Path, slides: Sequence[BankSlide], *, info: BankInfo) -> None:
    for kind in ("encoder_digest", "settings_digest"):
        expected = getattr(info, kind)
        for slide in slides:
            given = getattr(slide, kind)
            if given != expected:
                made = "tile encoders" if kind == "encoder_digest" else "settings"
                raise SettingsError(
                    f"the bank {folder} was made with two {made}: '{slide.slide_id}' with {given}, "
                    f"the others with {expected}; make the bank again"
                )


def _mapped(path: Path, *, shape: tuple[int, ...], dtype: type) -> Any:
    """The array, copy-on-write, so that ``torch.from_numpy`` takes it without a copy."""
    expected = np.dtype(dtype)
    try:
        with path.open("rb") as handle:
            version = np.lib.format.read_magic(handle)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
            if read is None:
                raise ValueError(f"npy version {version}")
            found, fortran, stored = read(handle)
            offset = handle.tell()
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, SyntaxError, TokenError, TypeError, RecursionError) as error:
        # numpy reads the header of an array as Python text
        reason = f"{path} is truncated, or no array of a bank ({error}); make it again"
        raise SettingsError(reason) from error
    if (found, stored, fortran) != (shape, expected, False):
        raise SettingsError(
            f"{path} holds {stored} {list(found)}; {CARD} says {expected} {list(shape)}; make the "
            "bank again"
        )
    wanted = offset + int(np.prod(shape)) * expected.itemsize
    if size != wanted:
        what = "truncated" if size < wanted else "too long"
        raise SettingsError(
            f"{path} is {what}: {size:,} bytes, expected {wanted:,}; copy or make it again"
        )
    return np.memmap(path, dtype=expected, mode="c", shape=shape, offset=offset)


def _reduction(folder: Path, info: BankInfo) -> Reduction | None:
    if not info.reduction_digest:
        return None
    reduction = load_reduction(folder / REDUCTION)
    given = digest_of_reduction(reduction)
    if given != info.reduction_digest:
        raise SettingsError(
            f"{folder / REDUCTION} has digest {given}, the bank was made with "
            f"{info.reduction_digest}; make the bank again"
        )
    return reduction


_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_LABELS = pa.map_(pa.string(), pa.string())


def slides_schema() -> pa.Schema:
    """Columns of ``slides.parquet``: the fields of ``BankSlide``."""
    columns = [
        pa.field(f.name, _TYPES.get(f.type, _LABELS), nullable=False)  # type: ignore[arg-type]
        for f in fields(BankSlide)
    ]
    return pa.schema(columns)


def save_slides(slides: Sequence[BankSlide], path: Path) -> None:
    """Writes ``slides.parquet``."""
    records = [plain(slide) | {"labels": sorted(slide.labels.items())} for slide in slides]
    table = pa.Table.from_pylist(records, schema=slides_schema())
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def read_slides(path: Path) -> list[BankSlide]:
    """Reads ``slides.parquet``, in the order of the rows.

    Raises:
        SettingsError: missing, damaged or another table.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            records = file.read().to_pylist()
        slides = [BankSlide(**r | {"labels": dict(r["labels"])}) for r in records]
    except OSError as error:
        raise _unreadable(path, error) from error
    except (pa.ArrowException, TypeError, KeyError, ValueError) as error:
        raise SettingsError(f"{path} is damaged ({error}); make the bank again") from error
    return sorted(slides, key=lambda slide: slide.row)


def _unreadable(path: Path, error: OSError) -> SettingsError | MachineError:
    known = machine_error(error, doing=f"cannot read {path}")
    if known is not None:
        return known
    if isinstance(error, FileNotFoundError):
        return SettingsError(f"the bank lacks {path.name}: no such file in {path.parent}")
    if error.errno is None:  # of the Parquet library, in several lines
        said = str(error).strip().partition("\n")[0]
        return SettingsError(f"{path} is damaged ({said}); make the bank again")
    return SettingsError(f"cannot read {path}: {error.strerror}")
