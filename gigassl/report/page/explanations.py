"""Explanations on a page: heatmaps of several systems side by side, with their extreme tiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from markupsafe import Markup

from gigassl.errors import GigasslError
from gigassl.evaluate.explain.record import ExplainedSlide, read_records
from gigassl.evaluate.mask_agreement import MEASURES
from gigassl.report.page.evaluation_parts import choice
from gigassl.report.page.explanations_slide import Explained, slide_panel
from gigassl.report.page.section import Cell, Section, joined_parts, notes, paragraph, table
from gigassl.report.tables import number

MOST_SLIDES = 8
"""Slides shown, unless another number is given: each has some hundred kB of pictures."""

CAVEATS: Mapping[str, str] = {
    "attention": (
        "Attention says where a model looked, not what for: a tile with much of it may speak "
        "against the class, and attention is the same for every class."
    ),
    "contribution": (
        "A contribution has a sign: what raises the logit of the class, and what lowers it. They "
        "sum to the logit less its offset."
    ),
    "grad-cam": (
        "Grad-CAM shows only what speaks for the class, as coarsely as the network's layer is, and "
        "relative to the highest tile of the slide."
    ),
}
_MEASURES = {"iou": "IoU at equal area", "pointing": "pointing game", "auprc": "AUPRC",
             "auc": "pixel AUC"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class System:
    """What one system explained.

    Attributes:
        name: its method; with its folder's name where two have the same.
        folder: of ``gigassl explain``.
        slides: records by slide id.
    """

    name: str
    folder: Path
    slides: Mapping[str, ExplainedSlide]


def explanation_sections(
    folders: Sequence[Path], *, most: int = MOST_SLIDES
) -> tuple[Section, ...]:
    """One section of explained slides: all systems of a slide side by side, on the same scale.

    Slides that most systems explained are shown, in turn of each class; the rest is counted.

    Args:
        folders: of ``gigassl explain``, one a system; none give no section.
        most: slides shown, at most.

    Raises:
        SettingsError: a folder without explained slides.
    """
    if not folders:
        return ()
    systems = systems_of(folders)
    chosen = chosen_slides(systems, most=most)
    panels, failed = _panels(systems, chosen)
    meanings = {slide.meaning for system in systems for slide in system.slides.values()}
    caveats = [text for meaning, text in CAVEATS.items() if meaning in meanings]
    body = joined_parts([
        choice("Slide", panels) if panels else paragraph("No explained slide could be shown."),
        _summary(systems),
        notes([*caveats, *failed, *_left_out(systems, chosen)]),
    ])  # fmt: skip
    lead = (
        "Which tiles an answer comes from, said by models that did not learn from the slide or its "
        "patient unless it is marked. Heat shows where, never why."
    )
    return (Section(anchor="explanations", title="Explanations", lead=lead, body=body),)


def systems_of(folders: Sequence[Path]) -> tuple[System, ...]:
    """The systems, each by a name of its own.

    Raises:
        SettingsError: a folder without explained slides.
    """
    found = [(folder, read_records(folder)) for folder in folders]
    names = [next(iter(records.values())).method for _, records in found]
    return tuple(
        System(
            name=name if names.count(name) == 1 else f"{name} ({folder.name})",
            folder=folder,
            slides=records,
        )
        for name, (folder, records) in zip(names, found, strict=True)
    )


def chosen_slides(systems: Sequence[System], *, most: int) -> tuple[str, ...]:
    """The slides to be shown: explained by the most systems, and from each class in turn."""
    counts: dict[str, int] = {}
    classes: dict[str, str] = {}
    for system in systems:
        for name, slide in system.slides.items():
            counts[name] = counts.get(name, 0) + 1
            classes.setdefault(name, slide.y_true or slide.explained)
    chosen: list[str] = []
    for count in sorted(set(counts.values()), reverse=True):
        groups: dict[str, list[str]] = {}
        for name in sorted(name for name, n in counts.items() if n == count):
            groups.setdefault(classes[name], []).append(name)
        turns = zip_longest(*(groups[each] for each in sorted(groups)))
        chosen += [name for turn in turns for name in turn if name is not None]
    return tuple(chosen[:most])


def _panels(
    systems: Sequence[System], chosen: Sequence[str]
) -> tuple[list[tuple[str, Markup]], list[str]]:
    """What is shown of each slide, and what could not be read."""
    panels, failed = [], []
    for name in chosen:
        explained = []
        for system in systems:
            if name not in system.slides:
                continue
            folder = system.folder / name
            try:
                explained.append(Explained.read(folder, system.slides[name], system=system.name))
            except GigasslError as error:
                failed.append(f"Left out: {system.name} of {name}, {_without(folder, error)}")
        if explained:
            panels.append((_title(explained[0].record), slide_panel(explained)))
    return panels, failed


def _without(folder: Path, error: GigasslError) -> str:
    """What went wrong; places of files are nobody else's business."""
    return str(error).replace(f"{folder}/", "")


def _title(record: ExplainedSlide) -> str:
    return f"{record.slide_id} · true class {record.y_true}" if record.y_true else record.slide_id


def _summary(systems: Sequence[System]) -> Markup:
    """One row a system; with agreement where masks were given."""
    measured = {
        system.name: [(s.agreement, s.chance) for s in system.slides.values()
                      if s.agreement and s.chance]
        for system in systems
    }  # fmt: skip
    header = ["system", "how", "slides", "learned from the slide"]
    some_masks = any(measured.values())
    if some_masks:
        header += ["slides with a mask", *(f"{_MEASURES[name]} (shuffled)" for name in MEASURES)]
    rows: list[list[Cell]] = []
    for system in systems:
        slides = list(system.slides.values())
        row: list[Cell] = [system.name, _how(slides), len(slides),
                           sum(slide.learned_from for slide in slides)]  # fmt: skip
        if some_masks:
            pairs = measured[system.name]
            row.append(len(pairs))
            for name in MEASURES:
                ours, chance = (
                    np.mean([getattr(pair[k], name) for pair in pairs]) if pairs else np.nan
                    for k in (0, 1)
                )
                row.append(f"{number(float(ours))} ({number(float(chance))})" if pairs else None)
        rows.append(row)
    return table(header, rows, caption="All explained slides")


def _how(slides: Sequence[ExplainedSlide]) -> str:
    """How the first slide was explained; numbers of crops differ from slide to slide."""
    return slides[0].how.partition(", mean over")[0]


def _left_out(systems: Sequence[System], chosen: Sequence[str]) -> list[str]:
    every = {name for system in systems for name in system.slides}
    n_more = len(every - set(chosen))
    if not n_more:
        return []
    named = " and ".join(dict.fromkeys(f"{system.folder.name}/" for system in systems))
    said = f"{n_more:,} more explained slides are not on this page: see heatmap.png and tiles.png"
    return [f"{said} of each in {named}."]
