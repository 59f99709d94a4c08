"""Importing other tools' slide vectors: files of any known kind into one table of ours."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float64

from gigassl.digests import digest_of_settings
from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.contamination import PRETRAINED_ON, slides_record
from gigassl.pipeline.failures import Failure, failures_path, save_failures, with_failures
from gigassl.pipeline.output import claimed
from gigassl.pipeline.progress import Progress, Silent
from gigassl.slides.cohort import patient_of, read_patients, slide_id_of
from gigassl.vectors.foreign_record import ForeignVectors
from gigassl.vectors.foreign_vectors import foreign_files, read_foreign
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.row import SlideRow
from gigassl.vectors.table import SlideTable, save_table, table_from_rows
from gigassl.versions import installed_version

LENGTH = "length_before"
"""Column of an imported table: length of the vector before it was normalised."""


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What the files themselves may not say.

    Attributes:
        encoder: name of what made the vectors.
        cohort: table with slide_id and patient_id.
        pretrained_on: table of the slides that the encoder was pretrained on.
    """

    encoder: str = ""
    cohort: Path | None = None
    pretrained_on: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What an import did.

    Attributes:
        table: as written; None where no vector could be used.
        n_twice: vectors left out since the same stood there before.
        notes: what else a user should know.
    """

    out: Path
    table: SlideTable | None
    failures: Sequence[Failure]
    n_twice: int
    notes: Sequence[str]
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        """The result in plain values, for ``--json``."""
        table = self.table
        return {
            "out": str(self.out),
            "rows": 0 if table is None else len(table),
            "dim": 0 if table is None else table.dim,
            "patients": 0 if table is None else len(set(table.patient_ids)),
            "identical": self.n_twice,
            "notes": list(self.notes),
            "failures": [asdict(failure) for failure in self.failures],
        }

    def sentence(self) -> str:
        """The result in a few lines."""
        if self.table is None:
            return with_failures(
                f"{self.out}: no vector could be used", self.failures, failures_path(self.out)
            )
        imported = self.table.provenance["settings"]["imported"]
        done = (
            f"{self.out}: {len(self.table)} slides of {len(set(self.table.patient_ids))} patients, "
            f"{self.table.dim}-d, from {imported['tool']} "
            f"({imported['encoder'] or 'encoder not said'})"
        )
        if self.n_twice:
            done = f"{done}; {self.n_twice} identical repeats left out"
        done = with_failures(done, self.failures, failures_path(self.out))
        return "\n".join([done, *self.notes])


def import_vectors(
    sources: Sequence[Path], out: Path, *, options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> ImportResult:  # fmt: skip
    """Writes other tools' slide vectors as a table of ours, each at length one.

    Giga-SSL's ``embeddings.npy`` beside ``ids.npy``; TRIDENT's and STAMP's ``.h5`` of a slide and
    COBRA's of a cohort; TITAN's pickle, parsed and never run; any CSV or Parquet with ``slide_id``
    and numeric columns or one column of lists. A column keeps each vector's former length.

    Args:
        sources: files and folders.
        out: the Parquet file to write.
        options: what the files themselves do not say.
        progress: is told of every file.

    Raises:
        SettingsError: files that cannot be read or joined; a slide with two different vectors.
        MachineError: the output cannot be written.

    Example::

        result = gigassl.import_vectors([Path("TCGA_encoded")], Path("vectors.parquet"))
    """
    if out.suffix != ".parquet":
        raise SettingsError(f"-o names the table to write and ends in .parquet; got {out}")
    options = options or ImportOptions()
    patients = {} if options.cohort is None else read_patients(options.cohort)
    files = foreign_files(sources)
    with claimed(out):
        found = _Found(patients=patients)
        (progress or Silent()).started(len(files))
        for path in files:
            found.take(path)
            (progress or Silent()).slide_done(path.name, failed=False)
        provenance = _provenance(found, options=options)
        table = found.table(provenance)
        if table is not None:
            save_table(table, out)
        save_failures(found.failures, failures_path(out))
    return ImportResult(
        out=out,
        table=table,
        failures=tuple(found.failures),
        n_twice=found.n_twice,
        notes=tuple(found.notes),
    )


@dataclass(kw_only=True, eq=False)
class _Found:
    """Everything that was read so far, each slide once."""

    patients: Mapping[str, str]
    rows: dict[str, SlideRow] = field(default_factory=dict)
    raw: dict[str, Float[np.ndarray, " dim"]] = field(default_factory=dict)
    lengths: dict[str, float] = field(default_factory=dict)
    tools: dict[str, Path] = field(default_factory=dict)
    encoders: dict[str, Path] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_twice: int = 0

    def take(self, path: Path) -> None:
        """Adds the vectors of one file; an unreadable one is listed among the failures."""
        try:
            held = read_foreign(path)
        except SlideError as error:
            self._fail(slide_id_of(path), path, error)
            return
        self.tools.setdefault(held.tool, path)
        self.encoders.setdefault(held.encoder, path)
        self.notes += held.notes
        digest = _digest_of_file(path)
        self.digests[path.name] = digest
        for name, vector, patient in _each(held):
            self._add(name, vector, patient=patient, path=path, digest=digest)

    def _add(
        self, name: str, vector: Float[np.ndarray, " dim"], *, patient: str, path: Path,
        digest: str,
    ) -> None:  # fmt: skip
        slide_id = slide_id_of(Path(name))
        before = self.raw.get(slide_id)
        if before is not None:
            if not np.array_equal(before, vector, equal_nan=True):
                raise SettingsError(
                    f"slide '{slide_id}' stands there twice with different vectors "
                    f"({path.name}); leave one out"
                )
            self.n_twice += 1
            return
        self.raw[slide_id] = vector
        self._refuse_width(slide_id, path)
        patient = self.patients.get(slide_id, patient)
        patient_id, rule = (patient, "column") if patient else patient_of(slide_id)
        try:
            embedding = l2_normalised(vector)
        except SlideError as error:
            self._fail(slide_id, path, error)
            return
        self.lengths[slide_id] = float(np.linalg.norm(vector.astype(np.float64)))
        self.rows[slide_id] = SlideRow(
            slide_id=slide_id, patient_id=patient_id, patient_rule=rule, file=path.name,
            embedding=embedding, n_tiles=None, inputs_digest=digest,
        )  # fmt: skip

    def _refuse_width(self, slide_id: str, path: Path) -> None:
        first, vector = next(iter(self.raw)), self.raw[slide_id]
        if len(vector) != len(self.raw[first]):
            raise SettingsError(
                f"slide '{slide_id}' ({path.name}) has a vector of {len(vector)} numbers, "
                f"'{first}' of {len(self.raw[first])}; import the encoders' vectors one by one"
            )

    def _fail(self, slide_id: str, path: Path, error: SlideError) -> None:
        self.failures.append(
            Failure(
                slide_id=slide_id, path=str(path), stage=error.stage, reason=error.reason,
                detail=error.detail,
            )
        )  # fmt: skip

    def table(self, provenance: Mapping[str, Any]) -> SlideTable | None:
        """The rows as a table, with a column of the former lengths; None without any."""
        digest = digest_of_settings(provenance["settings"])
        rows = [replace(row, settings_digest=digest) for row in self.rows.values()]
        if not rows:
            return None
        table = table_from_rows(rows, provenance=provenance)
        lengths: Float64[np.ndarray, " slide"] = np.array(
            [self.lengths[name] for name in table.slide_ids]
        )
        return replace(table, data=table.data.append_column(LENGTH, pa.array(lengths)))


def _each(held: ForeignVectors) -> Iterator[tuple[str, Float[np.ndarray, " dim"], str]]:
    patients = held.patient_ids or ("",) * len(held.names)
    return zip(held.names, held.vectors, patients, strict=True)


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def _provenance(found: _Found, *, options: ImportOptions) -> dict[str, Any]:
    encoder = options.encoder or _the_one("encoders", found.encoders)
    dim = len(next(iter(found.raw.values()))) if found.raw else 0
    if not encoder:
        found.notes.append(
            "no file says which encoder made the vectors; name it with --encoder, so that vectors "
            "of another one can be told from these"
        )
    seen = (
        {}
        if options.pretrained_on is None
        else {PRETRAINED_ON: _pretrained_on(options.pretrained_on)}
    )
    return {
        "settings": {
            "imported": {"tool": _the_one("tools", found.tools), "encoder": encoder, "dim": dim},
            "slide_encoder": {"name": encoder},
        },
        "files": {"count": len(found.digests), "digest": digest_of_settings(found.digests)},
        "versions": {"gigassl": installed_version("gigassl")},
        "normalised": True,
        **seen,
    }


def _the_one(what: str, found: Mapping[str, Path]) -> str:
    if len(found) > 1:
        said = " and ".join(
            f"'{name or 'not said'}' ({path.name})" for name, path in list(found.items())[:2]
        )
        raise SettingsError(
            f"the files come from different {what}: {said}; import them into a table each, or "
            "name what they share with --encoder"
            if what == "encoders"
            else f"the files come from different {what}: {said}; import them into a table each"
        )
    return next(iter(found), "")


def _pretrained_on(table: Path) -> dict[str, Any]:
    patients = read_patients(table)
    return {"slide_encoder": slides_record(list(patients), list(patients.values()))}
