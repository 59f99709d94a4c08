"""Finished slides of a run: committed one by one while it runs, one sorted table at the end."""

import hashlib
import logging
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.contamination import counted
from gigassl.pipeline.places import LocalPlace, Place, parts_name
from gigassl.slides.cohort import CohortSlide
from gigassl.vectors.merge import chosen_rows
from gigassl.vectors.table import SlideRow, SlideTable, one_row, open_table, save_table

log = logging.getLogger("gigassl")

_PACK_SIZE = 1024
_PACK = re.compile(r"pack-(\d{8})\.parquet")


class _Held(NamedTuple):
    """A row that lies in a table of several."""

    data: pa.Table
    row: int
    inputs_digest: str


class Parts:
    """The rows of an output: those merged earlier, and those committed one by one since.

    A Parquet file cannot be appended to, so each slide is committed as a small table of its own in
    ``<out>.parts/`` (written aside, renamed). Every ``pack_size`` of them become one file, so that
    neither the folder nor the scan of a resumed run has a file for each slide of a collection.
    ``merge`` makes one sorted table and clears them. Rows are held as Arrow columns, about the size
    of the vectors.
    """

    def __init__(
        self, out: Path, *, settings_digest: str, provenance: Mapping[str, Any],
        place: Place | None = None, pack_size: int = _PACK_SIZE,
    ) -> None:  # fmt: skip
        self.out = out
        self.folder = out.with_name(parts_name(out.name))
        self.place = place or LocalPlace()
        self.settings_digest = settings_digest
        self.provenance = dict(provenance)
        self.pack_size = pack_size
        self._rows: dict[str, _Held] = {}
        self._loose: dict[str, Path] = {}
        self._next_pack = 0
        self._earlier = open_table(out) if out.exists() else None
        if self._earlier is not None:
            self._hold(self._earlier)
        # packs first and by number: a slide done anew since lies in a later one, or in its own file
        for path in sorted(self.folder.glob("*.parquet"), key=_in_order):
            self._hold_file(path)

    def _hold_file(self, path: Path) -> None:
        pack = _PACK.fullmatch(path.name)
        if pack is not None:
            self._next_pack = int(pack[1]) + 1
        try:
            table = open_table(path)
        except GigasslError as error:
            # only a machine that lost power leaves one; its slides are simply embedded again
            log.warning("ignoring a damaged part: %s", error)
            return
        if self._hold(table) and pack is None:
            self._loose.update(dict.fromkeys(table.slide_ids, path))

    def _hold(self, table: SlideTable) -> bool:
        """Takes in rows of these settings; says whether it did."""
        if table.settings_digest != self.settings_digest:
            return False
        digests = table.data["inputs_digest"].to_pylist()
        for row, (slide_id, digest) in enumerate(zip(table.slide_ids, digests, strict=True)):
            self._rows[slide_id] = _Held(table.data, row, digest)
        return True

    def stale(self) -> Sequence[str]:
        """Slides of the earlier table, if that was made with other settings (it has one digest)."""
        earlier = self._earlier
        if earlier is None or earlier.settings_digest == self.settings_digest:
            return []
        return earlier.slide_ids

    def earlier_provenance(self) -> Mapping[str, Any]:
        """The provenance of the earlier table, empty where there is none."""
        return {} if self._earlier is None else self._earlier.provenance

    def reusable(self, sources: Iterable[CohortSlide], inputs: Mapping[str, str]) -> set[str]:
        """Slides whose row still holds: same settings, same inputs (see ``inputs_digest``)."""
        return {
            source.slide_id
            for source in sources
            if source.slide_id in self._rows
            and self._rows[source.slide_id].inputs_digest == inputs.get(source.slide_id)
        }

    def check_strangers(self, known: set[str]) -> None:
        """Rows of slides that are not in this run's input stay, unless that cannot be.

        Raises:
            SettingsError: such rows were made with other settings, so they would be lost.
        """
        lost = sorted(set(self.stale()) - known)
        if lost:
            raise SettingsError(
                f"{self.place.shown(self.out)} holds {len(lost)} slides that are not in this "
                f"input, made with other settings ({lost[0]}, …); choose another -o"
            )
        kept = sorted(self._rows.keys() - known)
        if kept:
            where = self.place.shown(self.out)
            log.info("%d slides in %s are not in this input; they stay", len(kept), where)

    def commit(self, row: SlideRow) -> None:
        """Makes one slide's row safe."""
        self.folder.mkdir(exist_ok=True)
        # of the provenance only what is not the same long list in each of thousands of files
        table = one_row(row, provenance=counted(self.provenance))
        path = self.folder / _file_name(row.slide_id)
        self._keep(table, path)
        self._hold(table)
        self._loose[row.slide_id] = path
        if len(self._loose) >= self.pack_size:
            self._pack()

    def _pack(self) -> None:
        """Makes one file of those of one slide each.

        Killed between the two steps, it leaves rows twice, which are the same.
        """
        path = self.folder / f"pack-{self._next_pack:08d}.parquet"
        packed = self._table(
            [slide_id for slide_id in self._loose if slide_id in self._rows],
            provenance=counted(self.provenance),
        )
        self._keep(packed, path)
        # read back, so that only what is known to be whole is removed
        self._hold(open_table(path))
        self._next_pack += 1
        for loose in self._loose.values():
            loose.unlink(missing_ok=True)
        self.place.gone(self._loose.values())
        self._loose.clear()

    def _keep(self, table: SlideTable, path: Path) -> None:
        save_table(table, path)
        self.place.keep(path)

    def _table(self, slide_ids: Iterable[str], *, provenance: Mapping[str, Any]) -> SlideTable:
        """One table of rows that lie in many."""
        pieces: dict[int, tuple[pa.Table, list[int]]] = {}
        for slide_id in slide_ids:
            held = self._rows[slide_id]
            pieces.setdefault(id(held.data), (held.data, []))[1].append(held.row)
        return chosen_rows(list(pieces.values()), provenance=provenance)

    def drop(self, slide_ids: Iterable[str]) -> None:
        """Forgets rows that no longer hold, so that a slide that now fails leaves no old vector."""
        for slide_id in slide_ids:
            self._rows.pop(slide_id, None)

    def merge(self) -> SlideTable | None:
        """Writes one table sorted by slide_id and clears the parts; None when there is no row."""
        table = None
        if self._rows:
            table = self._table(self._rows, provenance=self.provenance)
            self._keep(table, self.out)
        parts = list(self.folder.glob("*.parquet"))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.place.gone(parts)
        return table


def _file_name(slide_id: str) -> str:
    """A file name for any slide_id: a digest, since ids may hold any character and be long."""
    return f"{hashlib.sha256(slide_id.encode()).hexdigest()[:32]}.parquet"


def _in_order(path: Path) -> tuple[bool, str]:
    """Sorts packs before parts of one slide, and each by name."""
    return _PACK.fullmatch(path.name) is None, path.name
