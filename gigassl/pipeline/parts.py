"""Finished slides of a run: one committed file each while it runs, one sorted table at the end."""

import hashlib
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gigassl.errors import GigasslError, SettingsError
from gigassl.evaluate.contamination import counted
from gigassl.pipeline.places import LocalPlace, Place, parts_name
from gigassl.slides.cohort import CohortSlide
from gigassl.vectors.table import (
    SlideRow,
    SlideTable,
    one_row,
    open_table,
    save_table,
    table_from_rows,
)

log = logging.getLogger("gigassl")


class Parts:
    """The rows of an output: those merged earlier, and those committed one by one since.

    A Parquet file cannot be appended to, so each slide is committed as a small table of its own in
    ``<out>.parts/`` (written aside, renamed); ``merge`` makes one sorted table and clears them.
    """

    def __init__(
        self, out: Path, *, settings_digest: str, provenance: Mapping[str, Any],
        place: Place | None = None,
    ) -> None:  # fmt: skip
        self.out = out
        self.folder = out.with_name(parts_name(out.name))
        self.place = place or LocalPlace()
        self.settings_digest = settings_digest
        self.provenance = dict(provenance)
        self._earlier = open_table(out) if out.exists() else None
        self._rows = {row.slide_id: row for row in self._committed()}

    def _committed(self) -> Iterable[SlideRow]:
        """Rows of these settings, from the merged table and then from the parts."""
        tables = [] if self._earlier is None else [self._earlier]
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                tables.append(open_table(path))
            except GigasslError as error:
                # only a machine that lost power leaves one; its slide is simply embedded again
                log.warning("ignoring a damaged part: %s", error)
        for table in tables:
            if table.settings_digest == self.settings_digest:
                yield from table.rows()

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
        save_table(table, path)
        self.place.keep(path)
        self._rows[row.slide_id] = row

    def drop(self, slide_ids: Iterable[str]) -> None:
        """Forgets rows that no longer hold, so that a slide that now fails leaves no old vector."""
        for slide_id in slide_ids:
            self._rows.pop(slide_id, None)

    def merge(self) -> SlideTable | None:
        """Writes one table sorted by slide_id and clears the parts; None when there is no row."""
        table = None
        if self._rows:
            rows = [self._rows[slide_id] for slide_id in sorted(self._rows)]
            table = table_from_rows(rows, provenance=self.provenance)
            save_table(table, self.out)
            self.place.keep(self.out)
        parts = list(self.folder.glob("*.parquet"))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.place.gone(parts)
        return table


def _file_name(slide_id: str) -> str:
    """A file name for any slide_id: a digest, since ids may hold any character and be long."""
    return f"{hashlib.sha256(slide_id.encode()).hexdigest()[:32]}.parquet"
