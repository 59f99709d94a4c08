"""Writing a bank: preallocated for its cohort, a row at a time, each noted when it is on disk."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float, Integer, Shaped

from gigassl.bags.bank import card_text, save_slides
from gigassl.bags.bank_info import CARD, COORDS, FEATURES, JOURNAL, SLIDES, BankInfo, BankSlide
from gigassl.bags.bank_journal import Journal, note_slide, read_journal, save_journal
from gigassl.errors import SettingsError, SlideError
from gigassl.files import MachineError, machine_error, written_whole


class BankWriter:
    """A bank in the making, new or begun earlier; use it as a context.

    Rows are written through file handles, not through a memory map: on a full disk the former give
    an error with a sentence, the latter ends the process.

    Attributes:
        info: what all slides share.
        rows: slide_id of each row, sorted.
        slides: finished slides by name.
    """

    def __init__(self, folder: Path, info: BankInfo, *, slide_ids: Iterable[str]) -> None:
        """Begins a bank, or goes on with one of the same settings and slides.

        Raises:
            SettingsError: the folder holds a bank of other settings or other slides.
            MachineError: the folder cannot be written to.
        """
        self.folder, self.info = folder, info
        self.rows = tuple(sorted(slide_ids))
        self._number = {slide_id: row for row, slide_id in enumerate(self.rows)}
        self.slides: dict[str, BankSlide] = {}
        if (folder / JOURNAL).exists():
            self._go_on(read_journal(folder))
        try:
            self._features, self._coords = self._arrays()
        except OSError as error:
            raise self._unwritable(error) from error
        self._save_journal()

    def __enter__(self) -> "BankWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in (self._features, self._coords):
            # unflushed bytes of a row that failed on a full disk fail again here; they do not count
            with suppress(OSError):
                handle.close()

    def _go_on(self, journal: Journal) -> None:
        if journal.info.settings_digest != self.info.settings_digest:
            raise SettingsError(
                f"{self.folder} holds a bank of other settings (digest "
                f"{journal.info.settings_digest}, now {self.info.settings_digest}); choose another "
                "-o"
            )
        if journal.rows != self.rows:
            new, gone = sorted({*self.rows} - {*journal.rows}), {*journal.rows} - {*self.rows}
            raise SettingsError(
                f"{self.folder} was laid out for other slides: {len(new)} are new and {len(gone)} "
                "of its own are not in this input; encode the new ones into another folder and "
                "join the two with `gigassl merge`"
            )
        # the record of what made it stays as it was, versions included
        self.info = journal.info
        self.slides = dict(journal.slides)

    def _arrays(self) -> tuple[BinaryIO, BinaryIO]:
        n_rows = len(self.rows)
        return (
            _preallocated(
                self.folder / FEATURES, shape=self.info.feature_shape(n_rows), dtype=np.float16
            ),
            _preallocated(
                self.folder / COORDS, shape=self.info.coord_shape(n_rows), dtype=np.int32
            ),
        )

    def row_of(self, slide_id: str) -> int:
        """The row in which a slide belongs."""
        return self._number[slide_id]

    def begin(self, *, keep: Iterable[str]) -> None:
        """Forgets finished slides other than ``keep``; until ``finish`` the bank is unfinished.

        Raises:
            MachineError: the folder cannot be written to.
        """
        kept = set(keep)
        self.slides = {name: slide for name, slide in self.slides.items() if name in kept}
        self._save_journal()
        for name in (CARD, SLIDES):
            (self.folder / name).unlink(missing_ok=True)

    def write(
        self,
        slide: BankSlide,
        *,
        features: Float[np.ndarray, "augmentation tile dim"],
        coords: Integer[np.ndarray, "augmentation tile 2"],
    ) -> None:
        """Writes a slide's row; it counts as finished once it is flushed to disk and noted.

        Raises:
            SlideError: a feature is NaN, infinite or too large for float16.
            ValueError: arrays of another shape than the bank's.
            MachineError: the disk is full.
        """
        shapes = (features.shape, coords.shape)
        expected = (self.info.feature_shape(1)[1:], self.info.coord_shape(1)[1:])
        if shapes != expected or slide.row != self.row_of(slide.slide_id):
            raise ValueError(f"row {slide.row} of {shapes} does not fit a bank of {expected}")
        half = _half(features)
        try:
            _put(self._features, half, row=slide.row)
            _put(self._coords, coords.astype(np.int32), row=slide.row)
            note_slide(self.folder, slide)
        except OSError as error:
            raise self._unwritable(error) from error
        self.slides[slide.slide_id] = slide

    def finish(self, *, labels: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Writes ``slides.parquet`` and ``bank.json``; the bank can then be opened.

        Args:
            labels: today's labels of the slides, where they may have changed.

        Raises:
            MachineError: disk full, read-only folder.
        """
        if labels is not None:
            self.slides = {
                name: replace(slide, labels=labels.get(name, slide.labels))
                for name, slide in self.slides.items()
            }
        self._save_journal()
        ordered = sorted(self.slides.values(), key=lambda slide: slide.row)
        failed = [slide_id for slide_id in self.rows if slide_id not in self.slides]
        self._clear([self.row_of(slide_id) for slide_id in failed])
        with written_whole(self.folder / SLIDES) as part:
            save_slides(ordered, part)
        with written_whole(self.folder / CARD) as part:
            part.write_text(card_text(self.info, rows=self.rows, failed=failed), encoding="utf-8")

    def _clear(self, rows: Sequence[int]) -> None:
        """Zeros where a slide failed half way, or was finished once and now fails."""
        n_augmentations, n_tiles, dim = self.info.feature_shape(1)[1:]
        try:
            for row in rows:
                _put(self._features, np.zeros((n_augmentations, n_tiles, dim), np.float16), row=row)
                _put(self._coords, np.zeros((n_augmentations, n_tiles, 2), np.int32), row=row)
        except OSError as error:
            raise self._unwritable(error) from error

    def _save_journal(self) -> None:
        save_journal(self.folder, Journal(info=self.info, rows=self.rows, slides=self.slides))

    def _unwritable(self, error: OSError) -> MachineError:
        doing = f"cannot write the bank {self.folder}"
        return machine_error(error, doing=doing) or MachineError(f"{doing}: {error.strerror}")


def _half(features: Float[np.ndarray, "augmentation tile dim"]) -> Any:
    with np.errstate(over="ignore"):
        half = features.astype(np.float16)
    if not np.isfinite(half).all():
        raise SlideError(
            "features are NaN, infinite or above 65504, which float16 cannot hold; try "
            "--precision fp32, and check the encoder's weights",
            stage="encode",
        )
    return half


def _preallocated(path: Path, *, shape: tuple[int, ...], dtype: type) -> BinaryIO:
    """The array's file, open for writing rows; made at its full size if it is not there.

    Full size costs nothing on file systems with holes; the blocks come with the rows.
    """
    header = _header(shape, dtype=dtype)
    size = len(header) + int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not path.exists():
        with written_whole(path) as part, part.open("wb") as empty:
            empty.write(header)
            empty.truncate(size)
    handle = path.open("r+b")
    if handle.read(len(header)) != header or path.stat().st_size != size:
        handle.close()
        raise SettingsError(
            f"{path} is truncated or was written by another program; remove the folder "
            f"{path.parent} and make the bank again"
        )
    return handle


def _header(shape: tuple[int, ...], *, dtype: type) -> bytes:
    from io import BytesIO

    found = BytesIO()
    record = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    np.lib.format.write_array_header_1_0(found, {**record, "shape": shape})
    return found.getvalue()


def _put(handle: BinaryIO, values: Shaped[np.ndarray, "..."], *, row: int) -> None:
    """Writes one row and waits until it is on disk."""
    values = np.ascontiguousarray(values)
    # the header fills a multiple of 64 bytes; what follows it is rows only
    handle.seek(_start(handle) + row * values.nbytes)
    handle.write(values.data)
    handle.flush()
    os.fsync(handle.fileno())


def _start(handle: BinaryIO) -> int:
    handle.seek(0)
    np.lib.format.read_magic(handle)
    np.lib.format.read_array_header_1_0(handle)
    return handle.tell()
