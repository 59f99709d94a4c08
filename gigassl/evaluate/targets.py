"""What of a table of labels is to be predicted: the task of the slides that have a vector."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gigassl.delimited import finite_number
from gigassl.errors import SettingsError
from gigassl.evaluate.labels import LabelTable, is_empty, some, unique_labels
from gigassl.evaluate.task import Kind, Task

MOST_INTEGER_CLASSES = 10
"""Whole numbers of at most so many different values are classes, where nothing else is said."""

NO_VECTOR, NO_LABEL = "no vector", "no label"

TCGA_SURVIVAL = ("vital_status", "days_to_death", "days_to_last_follow_up")
_EVENT = {
    True: {"1", "1.0", "true", "yes", "dead", "deceased", "1:deceased"},
    False: {"0", "0.0", "false", "no", "alive", "living", "0:living", "censored"},
}
_TCGA_SITE = re.compile(r"^TCGA-([A-Z0-9]{2})-", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """Which columns say what.

    Attributes:
        target: column of the label; None: "label".
        kind: "auto": survival where ``time`` or ``event`` is given; classification where the
            labels are text, or whole numbers of at most ten values; else regression.
        time, event: columns of a survival task. Without them, the columns of TCGA's clinical
            tables are understood: days to death of the dead, to last follow-up of the living.
        site_column: where slides come from; without it the tissue source site of TCGA barcodes.
    """

    target: str | None = None
    kind: Literal["auto", "classification", "regression", "survival"] = "auto"
    time: str | None = None
    event: str | None = None
    site_column: str | None = None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A slide that takes no part, and why."""

    slide_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledSlides:
    """A task, and what became of the rest.

    Attributes:
        task: of the slides that have a label and a vector, sorted by name.
        left_out: slides with only one of the two.
        notes: sentences on how the table was understood.
    """

    task: Task
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def labelled_slides(
    table: LabelTable, settings: TargetSettings, *, available: Mapping[str, str], name: str = ""
) -> LabelledSlides:
    """The task of the slides that have a label and a vector.

    Args:
        table: of slides, or of patients, whose label all their slides share.
        settings: which columns say what.
        available: slide_id → patient_id of the slides that have a vector.
        name: of the task; else the column's name, or the file's where that is just "label".

    Raises:
        SettingsError: unknown columns, no slide with both, two labels of one slide, texts where
            numbers are needed, and all that makes a task impossible to learn.
    """
    kind, notes = _kind(table, settings), list[str]()
    texts = {
        part: texts_by_slide(table, column, available=available)
        for part, column in _columns(table, settings, kind).items()
    }
    labels = _survival_of_tcga(texts, notes) if "vital" in texts else texts
    labelled = set.intersection(*(set(part) for part in labels.values()))
    slides = sorted(labelled & available.keys())
    if not slides:
        raise _nothing_in_common(table, labelled, available)
    patients = _patients(table, slides, available=available, notes=notes)
    chosen = {part: [cells[s] for s in slides] for part, cells in labels.items()}
    task = Task(
        name=name or _name(table, settings, kind),
        kind=kind,
        slide_ids=tuple(slides),
        patient_ids=patients,
        sites=_sites(table, settings, slides=slides, patients=patients, available=available,
                     notes=notes),
        **_target(kind, slides, chosen, where=table.where),
    )  # fmt: skip
    left_out = [
        *(LeftOut(slide_id=s, reason=NO_VECTOR) for s in sorted(labelled - available.keys())),
        *(LeftOut(slide_id=s, reason=NO_LABEL) for s in sorted(available.keys() - labelled)),
    ]
    return LabelledSlides(task=task, left_out=tuple(left_out), notes=tuple(notes))


def _kind(table: LabelTable, settings: TargetSettings) -> Kind:
    if settings.kind != "auto":
        return settings.kind
    if settings.time or settings.event:
        return "survival"
    said = {t for t in table.column(settings.target or "label") if not is_empty(t)}
    numbers = [finite_number(text) for text in said]
    if any(value is None for value in numbers):
        return "classification"
    whole = all(value is not None and value.is_integer() for value in numbers)
    return "classification" if whole and len(said) <= MOST_INTEGER_CLASSES else "regression"


def _columns(table: LabelTable, settings: TargetSettings, kind: Kind) -> Mapping[str, str]:
    """Which part of the label stands in which column."""
    if kind != "survival":
        if settings.time or settings.event:
            raise SettingsError(f"--time and --event belong to survival; this task is {kind}")
        return {"label": settings.target or "label"}
    if settings.time and settings.event:
        return {"time": settings.time, "event": settings.event}
    if settings.time or settings.event or not set(TCGA_SURVIVAL) <= table.cells.keys():
        raise SettingsError(
            f"survival wants the columns of the time and of the event, --time and --event; "
            f"{table.where} has: {', '.join(table.cells)}"
        )
    return dict(zip(("vital", "death", "followed"), TCGA_SURVIVAL, strict=True))


def texts_by_slide(
    table: LabelTable, column: str, *, available: Mapping[str, str]
) -> Mapping[str, str]:
    """slide_id → text of a column, of tables of slides and of patients; empty cells left out."""
    if table.slide_ids is not None:
        return unique_labels(table.slide_ids, table.column(column), what="slide", where=table.where)
    of_patient = unique_labels(
        table.patient_ids, table.column(column), what="patient", where=table.where
    )
    return {s: of_patient[p] for s, p in available.items() if p in of_patient}


def _survival_of_tcga(
    texts: Mapping[str, Mapping[str, str]], notes: list[str]
) -> dict[str, Mapping[str, str]]:
    """Time and event from TCGA's clinical columns; times that are not above zero left out."""
    events = texts["vital"]
    times = {
        slide: found
        for slide, vital in events.items()
        if (found := texts["death" if vital.lower() == "dead" else "followed"].get(slide))
    }
    kept = {slide: text for slide, text in times.items() if (finite_number(text) or 0) > 0}
    notes.append(
        "overall survival of TCGA's clinical table: days to death of the dead, to the last "
        "follow-up of the living"
    )
    lost = sorted(times.keys() - kept.keys())
    if lost:
        notes.append(
            f"{len(lost)} slides are left out, since their time is zero, negative or no number: "
            f"{some(lost)}"
        )
    return {"time": kept, "event": events}


def _patients(
    table: LabelTable, slides: Sequence[str], *, available: Mapping[str, str], notes: list[str]
) -> tuple[str, ...]:
    """The label table's word on the patient counts before that of the vectors."""
    if table.slide_ids is None:
        return tuple(available[slide] for slide in slides)
    said = unique_labels(table.slide_ids, table.patient_ids, what="slide", where=table.where)
    differ = [s for s in slides if said.get(s, available[s]) != available[s]]
    if differ:
        notes.append(
            f"{len(differ)} slides have another patient in {table.where} than with the vectors, "
            f"such as '{differ[0]}' ('{said[differ[0]]}', '{available[differ[0]]}'); that of "
            "the labels counts"
        )
    return tuple(said.get(slide, available[slide]) for slide in slides)


def _sites(
    table: LabelTable, settings: TargetSettings, *, slides: Sequence[str],
    patients: Sequence[str], available: Mapping[str, str], notes: list[str],
) -> tuple[str, ...]:  # fmt: skip
    if settings.site_column is not None:
        named = texts_by_slide(table, settings.site_column, available=available)
        notes.append(f"sites: column '{settings.site_column}' of {table.where}")
        return tuple(named.get(slide, "") for slide in slides)
    pairs = zip(slides, patients, strict=True)
    found = tuple(tcga_site(slide) or tcga_site(patient) for slide, patient in pairs)
    if any(found):
        notes.append("sites: tissue source site of the TCGA barcode (characters 6 and 7)")
    return found


def tcga_site(barcode: str) -> str:
    """Tissue source site of a TCGA barcode, "" for other names.

    >>> tcga_site("TCGA-AA-3518-01Z-00-DX1")
    'AA'
    """
    found = _TCGA_SITE.match(barcode)
    return found[1].upper() if found else ""


def _target(
    kind: Kind, slides: Sequence[str], chosen: Mapping[str, Sequence[str]], *, where: str
) -> dict[str, Any]:
    if kind == "survival":
        times = _numbers(slides, chosen["time"], where=where)
        seen = [_event(text, slide, where) for slide, text in zip(slides, chosen["event"],
                strict=True)]  # fmt: skip
        return {"target": times, "event": np.array(seen, dtype=bool)}
    if kind == "regression":
        return {"target": _numbers(slides, chosen["label"], where=where)}
    classes = _in_order(set(chosen["label"]))
    number = {name: k for k, name in enumerate(classes)}
    target = np.array([number[label] for label in chosen["label"]], dtype=np.float64)
    return {"target": target, "classes": classes}


def _in_order(classes: set[str]) -> tuple[str, ...]:
    """Classes as people count: numbers by size, other names by letter."""
    values = {name: finite_number(name) for name in classes}
    if all(value is not None for value in values.values()):
        return tuple(sorted(classes, key=lambda name: (values[name], name)))
    return tuple(sorted(classes))


def _numbers(slides: Sequence[str], texts: Sequence[str], *, where: str) -> np.ndarray:
    values = [finite_number(text) for text in texts]
    for slide, text, value in zip(slides, texts, values, strict=True):
        if value is None:
            raise SettingsError(
                f"{where}: slide '{slide}' has '{text}' where a finite number is needed; correct "
                "it, or leave the cell empty"
            )
    return np.array(values, dtype=np.float64)


def _event(text: str, slide: str, where: str) -> bool:
    for event, words in _EVENT.items():
        if text.lower() in words:
            return event
    raise SettingsError(
        f"{where}: slide '{slide}' has the event '{text}'; expected 1 or 0, true or false, dead or "
        "alive"
    )


def _name(table: LabelTable, settings: TargetSettings, kind: Kind) -> str:
    if kind == "survival":
        return settings.target or settings.time or "overall survival"
    column = settings.target or "label"
    return Path(table.where).stem if column == "label" else column


def _nothing_in_common(
    table: LabelTable, labelled: set[str], available: Mapping[str, str]
) -> SettingsError:
    if table.slide_ids is None:
        ours, theirs, what = sorted(set(available.values())), table.patient_ids, "patients"
    else:
        ours, theirs, what = sorted(available), tuple(sorted(labelled)), "slides"
    if not theirs:
        return SettingsError(f"{table.where} holds no label: every cell of the column is empty")
    return SettingsError(
        f"{table.where} labels none of the {len(available)} slides: its {what} are called "
        f"{some(theirs)}, those with vectors {some(ours)}"
    )
