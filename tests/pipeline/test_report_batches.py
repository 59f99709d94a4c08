"""Sites and scanners of a report: told where they are in the vectors, by chance where not."""

from dataclasses import replace

import numpy as np

from gigassl.pipeline.report_batches import audited
from gigassl.report.page.batches import batches_section
from gigassl.report.page.columns import Column
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.table import SlideTable, table_from_rows
from tests.vectors.test_table import PROVENANCE, make_row

N, N_SITES = 90, 3


def cohort(*, strength: float) -> tuple[SlideTable, Column, Column]:
    """Slides with their site so strongly in their vectors, the column of it, and one of classes."""
    rng = np.random.default_rng(0)
    rows = []
    for k in range(N):
        vector = rng.standard_normal(8)
        vector[k // 2 % N_SITES] += strength
        row = make_row(f"s{k:03}", embedding=l2_normalised(vector))
        rows.append(replace(row, patient_id=f"p{k // 2:03}"))
    sites = tuple(f"h{k // 2 % N_SITES}" for k in range(N))
    classes = tuple("ab"[k // 7 % 2] for k in range(N))
    table = table_from_rows(rows, provenance=PROVENANCE)
    return (
        table, Column(name="site", group="g", texts=sites),
        Column(name="class", group="g", texts=classes),
    )  # fmt: skip


def test_a_site_in_the_vectors_is_told_and_a_shuffled_one_is_not() -> None:
    table, site, target = cohort(strength=4)
    ((audit,), notes) = audited(table, [site], target=target, seed=0)
    assert audit.told.low > 0.9
    assert audit.shuffled.low < 1 / N_SITES < audit.shuffled.high
    assert audit.robustness is not None
    assert audit.robustness.index < audit.robustness.index_by_chance
    assert list(audit.groups) == [(f"h{k}", N // N_SITES) for k in range(N_SITES)]
    for (name, _), rows in zip(audit.groups, audit.examples, strict=True):
        assert len(rows) == 6
        assert {site.texts[row] for row in rows} == {name}
    assert notes == []


def test_a_site_that_is_not_there_is_told_by_chance() -> None:
    table, site, _ = cohort(strength=0)
    ((audit,), notes) = audited(table, [site], target=None, seed=0)
    assert audit.told.low < 1 / N_SITES + 0.1
    assert audit.robustness is None
    assert "--target" in notes[0]


def test_what_cannot_be_measured_is_said() -> None:
    table, site, _ = cohort(strength=0)
    one = replace(site, texts=("h0",) * 88 + ("h1",) * 2)
    audits, notes = audited(table, [one], target=None, seed=0)
    assert audits == []
    assert notes[0].startswith("site: not measured, 1 of 2 sites have at least 3 patients")
    section = batches_section(audits, slide_ids=table.slide_ids, remarks=notes)
    assert "not measured" in section.body


def test_examples_of_a_group_are_those_nearest_to_its_mean() -> None:
    table, site, _ = cohort(strength=2)
    ((audit,), _) = audited(table, [site], target=None, seed=0)
    member = [k for k in range(N) if site.texts[k] == "h1"]
    mean = table.embeddings[member].mean(axis=0)
    ordered = sorted(member, key=lambda k: -float(table.embeddings[k] @ mean))
    assert list(audit.examples[1]) == ordered[:6]
