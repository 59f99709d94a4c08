"""Vector sets: files of slide vectors as probes take them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.evaluate.contamination import seen_slides
from gigassl.evaluate.vector_set import FIRST_BLOCK, VectorSet
from gigassl.vectors.table import SlideTable, open_table


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenVectors:
    """A table of vectors and what it is called.

    Attributes:
        name: unlike that of the others.
        table: the file's content.
        vectors: the same, as probes take it.
    """

    name: str
    table: SlideTable
    vectors: VectorSet

    @cached_property
    def patients(self) -> Mapping[str, str]:
        """slide_id → patient_id."""
        return dict(zip(self.table.slide_ids, self.table.patient_ids, strict=True))

    @cached_property
    def known_patients(self) -> Mapping[str, str]:
        """The same of slides whose patient a column or barcode said, not the slide's own name."""
        rules = self.table.data["patient_rule"].to_pylist()
        told = zip(self.patients.items(), rules, strict=True)
        return {slide: patient for (slide, patient), rule in told if rule != "slide_id"}


def open_vector_set(path: Path, *, name: str | None = None) -> tuple[VectorSet, Mapping[str, str]]:
    """A table of vectors, and the patient of each of its slides.

    Args:
        path: the Parquet file of ``gigassl embed`` or ``gigassl import-vectors``.
        name: what tables call it; else the file's name.

    Raises:
        GigasslError: no such file, or no table of slide vectors; a slide twice.
        SettingsError: vectors that are not finite.
    """
    found = _opened(path, name=name or path.stem)
    return found.vectors, found.patients


def open_vector_sets(paths: Sequence[Path]) -> list[OpenVectors]:
    """Several tables, each under a name of its own: the file's, with its folder's where needed.

    Raises:
        SettingsError: none, or one file twice; and as ``open_vector_set``.
    """
    if not paths:
        raise SettingsError("give at least one table of vectors")
    twice = [p for p, count in Counter(p.resolve() for p in paths).items() if count > 1]
    if twice:
        raise SettingsError(f"{twice[0].name} is given twice; give each table of vectors once")
    plain = Counter(path.stem for path in paths)
    names = [p.stem if plain[p.stem] == 1 else f"{p.resolve().parent.name}/{p.stem}" for p in paths]
    if len(set(names)) < len(names):
        raise SettingsError(
            f"several tables of vectors are called '{names[0]}'; rename the files, so that the "
            "methods can be told apart"
        )
    return [_opened(path, name=name) for path, name in zip(paths, names, strict=True)]


def _opened(path: Path, *, name: str) -> OpenVectors:
    table = open_table(path)
    vectors = VectorSet(
        name=name,
        slide_ids=tuple(table.slide_ids),
        vectors=table.embeddings,
        first_block=table.provenance.get(FIRST_BLOCK),
        seen=seen_slides(table.provenance, slide_ids=table.slide_ids),
        digest=table.settings_digest,
    )
    return OpenVectors(name=name, table=table, vectors=vectors)


def common_patients(opened: Sequence[OpenVectors]) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """slide_id → patient_id of the slides that all tables have, and what each table has more.

    A table that knows a slide's patient tells those that only know the slide's name.

    Raises:
        SettingsError: no slide in common, or a slide of different patients.
    """
    first = opened[0]
    common = set(first.patients).intersection(*(each.patients for each in opened))
    if not common:
        raise SettingsError(
            f"'{first.name}' and the other tables of vectors have no slide in common; methods are "
            "compared on the same slides"
        )
    patients = {slide: first.patients[slide] for slide in sorted(common)}
    said_by: dict[str, str] = {}
    notes = []
    for each in opened:
        for slide, patient in each.known_patients.items():
            if slide in said_by and patients[slide] != patient:
                raise SettingsError(
                    f"slide '{slide}' is of patient '{patients[slide]}' in '{said_by[slide]}' and "
                    f"of '{patient}' in '{each.name}'; correct one of them"
                )
            if slide in common:
                patients[slide], said_by[slide] = patient, each.name
        more = sorted(set(each.patients) - common)
        if more:
            notes.append(
                f"{len(more)} slides of '{each.name}' are not in every table of vectors and are "
                f"left out, first '{more[0]}'"
            )
    return patients, tuple(notes)
