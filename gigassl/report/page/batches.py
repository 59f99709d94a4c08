"""Batch effects: how well vectors tell the hospital or scanner, and what its slides look like."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gigassl.evaluate.estimates import Estimate
from gigassl.evaluate.sites import RobustnessIndex
from gigassl.report.page.section import (
    Section,
    folded,
    joined_parts,
    notes,
    rendered,
    table,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchAudit:
    """One way to group slides that biology should not know of.

    Attributes:
        name: of the groups, such as the column of the site.
        groups: name and slides of each that is told apart.
        left_out: slides of groups with too few patients, or of none.
        told: balanced accuracy of a probe that tells the group, on folds of patients.
        shuffled: the same with the groups dealt to other patients.
        robustness: neighbours by class and by group; None without classes.
        examples: of each group, rows of its most typical slides.
    """

    name: str
    groups: Sequence[tuple[str, int]]
    left_out: int
    told: Estimate
    shuffled: Estimate
    robustness: RobustnessIndex | None
    examples: Sequence[Sequence[int]]


def batches_section(
    audits: Sequence[BatchAudit], *, slide_ids: Sequence[str], remarks: Sequence[str]
) -> Section:
    """How much of sites and scanners is in vectors.

    Args:
        audits: one a way to group slides.
        slide_ids: in the order of the map.
        remarks: what was not measured, and why.
    """
    parts: list[Markup] = []
    if audits:
        header = (
            "groups by", "groups", "slides", "balanced accuracy", "groups shuffled", "chance",
            "robustness index", "by chance",
        )  # fmt: skip
        parts.append(table(header, [_row(audit) for audit in audits]))
    parts += [_examples(audit, slide_ids) for audit in audits]
    parts.append(notes(remarks))
    lead = (
        "A linear probe tries to tell from a vector which site or scanner the slide came from, on "
        "folds of patients. Far above the shuffled row, the batch is in the vectors: a target that "
        "leans to some sites can then be predicted by the site alone, and should be tested on "
        "whole sites (gigassl sites)."
    )
    return Section(
        anchor="batches", title="Sites and scanners", lead=lead, body=joined_parts(parts)
    )


def _row(audit: BatchAudit) -> tuple[str, ...]:
    robust = audit.robustness
    return (
        audit.name,
        f"{len(audit.groups)}",
        f"{sum(count for _, count in audit.groups):,}",
        str(audit.told),
        str(audit.shuffled),
        f"{1 / len(audit.groups):.3f}",
        "–" if robust is None else f"{robust.index:.3f}",
        "–" if robust is None else f"{robust.index_by_chance:.3f}",
    )


def _examples(audit: BatchAudit, slide_ids: Sequence[str]) -> Markup:
    """The most typical slides of each group: stains and scanners show at a glance."""
    groups = [
        {
            "name": name,
            "count": f"{count:,}",
            "slides": [{"row": row, "id": slide_ids[row], "value": "", "z": ""} for row in rows],
        }
        for (name, count), rows in zip(audit.groups, audit.examples, strict=True)
    ]
    body = rendered("groups.html", groups=groups)
    return folded(f"Typical slides by {audit.name}", body, is_open=True)
