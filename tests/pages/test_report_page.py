"""The report in a browser: hover, click, filter, colours; names run nothing, nothing leaves it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gigassl.pipeline.report import ReportOptions, report_page
from gigassl.vectors.pooling import l2_normalised
from gigassl.vectors.search import nearest
from gigassl.vectors.table import save_table, table_from_rows
from tests.pages.cohorts import EVIL, NAME, N, table_of
from tests.pages.conftest import Open, Opened, Scheme


def test_pointing_at_a_slide_shows_its_name_and_thumbnail(open_page: Open, report: Path) -> None:
    opened = open_page(report)
    for name in (NAME, "slide 007"):
        opened.point_at(name)
        assert opened.page.inner_text("#atlas-card .id") == name
        shown = "document.querySelector('#atlas-card img')"
        opened.page.wait_for_function(f"{shown}.complete && {shown}.naturalWidth > 0")
        assert opened.page.evaluate(f"{shown}.naturalWidth") == 320
    opened.page.mouse.move(5, 5)
    opened.page.wait_for_selector("#atlas-card", state="hidden")


def test_a_click_shows_the_ten_nearest_slides(open_page: Open, report: Path, cohort: Path) -> None:
    opened = open_page(report)
    for name in ("slide 007", NAME):
        opened.click(name)
        assert listed(opened) == [
            (near.slide_id, f"{near.similarity:.3f}") for near in nearest(table_of(cohort), name)
        ]
    assert opened.page.locator("#atlas-near li img").count() == 10


def listed(opened: Opened) -> list[tuple[str, str]]:
    items = opened.page.locator("#atlas-near li").all()
    return [(i.locator(".id").inner_text(), i.locator(".similarity").inner_text()) for i in items]


def test_a_click_on_a_neighbour_goes_on_from_there(
    open_page: Open, report: Path, cohort: Path
) -> None:
    opened = open_page(report)
    opened.page.locator("#outliers [data-slide]").first.click()
    first = opened.page.inner_text("#atlas-near h3")
    opened.page.locator("#atlas-near li button").nth(3).click()
    second = nearest(table_of(cohort), first)[3].slide_id
    assert opened.page.inner_text("#atlas-near h3") == second
    assert [name for name, _ in listed(opened)] == [
        near.slide_id for near in nearest(table_of(cohort), second)
    ]


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("subtype = luad", {f"slide {k:03}" for k in range(1, N, 2)}),
        ("age >= 67", {"slide 027", "slide 028", "slide 029"}),
        ("slide 02", {f"slide {k:03}" for k in range(20, N)}),
        (f"subtype = {EVIL}", {NAME, *(f"slide {k:03}" for k in range(2, N, 2))}),
        ("nothing of the kind", set()),
    ],
)
def test_a_filter_dims_the_rest(open_page: Open, report: Path, words: str, kept: set[str]) -> None:
    opened = open_page(report)
    opened.page.fill("#atlas-filter", words)
    opened.page.wait_for_function(
        "(text) => document.getElementById('atlas-count').textContent === text",
        arg=f"{len(kept)} of {N} slides",
    )
    opacity = opened.page.evaluate(
        """() => {
            const ids = JSON.parse(document.getElementById("atlas-data").textContent).ids;
            const found = {};
            for (const trace of document.getElementById("atlas-plot").data) {
                const {opacity} = trace.marker;
                trace.customdata.forEach((row, k) => { found[ids[row]] = opacity[k]; });
            }
            return found;
        }"""
    )
    assert len(opacity) == N
    assert {name for name, value in opacity.items() if value > 0.5} == kept
    assert all(value < 0.1 for name, value in opacity.items() if name not in kept)
    opened.page.fill("#atlas-filter", "")
    opened.page.wait_for_selector(f"#atlas-count >> text='{N} slides'")


def test_a_colour_of_the_legend_filters_by_it(open_page: Open, report: Path) -> None:
    opened = open_page(report)
    assert opened.page.input_value("#atlas-colour") == "subtype"
    opened.page.select_option("#atlas-colour", "hospital")
    assert opened.page.locator("#atlas-legend .chip").all_inner_texts() == [
        "h0\n10", "h1\n10", "h2\n10"
    ]  # fmt: skip
    opened.page.locator("#atlas-legend .chip").nth(1).click()
    assert opened.page.inner_text("#atlas-count") == f"10 of {N} slides"
    opened.page.select_option("#atlas-colour", "age")
    assert opened.page.inner_text("#atlas-legend").split() == ["40", "69"]


def test_names_are_text_and_nothing_else(open_page: Open, report: Path) -> None:
    opened = open_page(report)
    # of the page's own scripts, and of what figures and the map are drawn from
    kinds = opened.page.eval_on_selector_all("script", "all => all.map(s => s.type)")
    text = report.read_text(encoding="utf-8")
    assert EVIL not in text
    assert "<img src=x" not in text
    assert "<script>alert" not in text
    assert kinds.count("") == 4
    assert set(kinds) == {"", "application/json"}
    assert EVIL in opened.page.inner_text("#atlas-legend")
    # and a script that came in all the same would not run: the page names those that may
    opened.page.evaluate(
        """() => {
            const made = document.createElement("script");
            made.textContent = "window.ran = true";
            document.body.append(made);
        }"""
    )
    assert opened.page.evaluate("window.ran") is None
    assert "Content Security Policy" in opened.complaints.pop()


def test_light_and_dark_follow_the_system_and_the_button(open_page: Open, report: Path) -> None:
    grounds: dict[Scheme, str] = {}
    for scheme in ("light", "dark"):
        page = open_page(report, scheme=scheme).page
        grounds[scheme] = ground(page.evaluate(_GROUND))
        before = page.evaluate("document.getElementById('atlas-plot').layout.font.color")
        page.click("#theme")
        assert ground(page.evaluate(_GROUND)) != grounds[scheme]
        assert page.evaluate("document.getElementById('atlas-plot').layout.font.color") != before
    assert grounds["light"] != grounds["dark"]


_GROUND = "getComputedStyle(document.body).backgroundColor"


def ground(colour: str) -> str:
    assert colour.startswith("rgb(")
    return colour


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_never_scrolls_sideways(
    open_page: Open, report: Path, width: int, scheme: Scheme
) -> None:
    opened = open_page(report, scheme=scheme, width=width)
    opened.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    opened.page.locator("#outliers [data-slide]").first.click()
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width


def test_many_thumbnails_lie_beside_the_page_and_load_when_wanted(
    open_page: Open, cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "many.html"
    result = report_page(
        cohort / "vectors.parquet", out,
        options=ReportOptions(
            slides=cohort / "slides.csv", umap=False, inline_thumbnails=N - 1
        ),
    )  # fmt: skip
    assert result.thumbnails == tmp_path / "many.thumbnails"
    assert len(list(result.thumbnails.iterdir())) == N == result.n_thumbnails
    opened = open_page(out)
    opened.point_at("slide 007")
    shown = "document.querySelector('#atlas-card img')"
    opened.page.wait_for_function(f"{shown} && {shown}.complete && {shown}.naturalWidth > 0")
    pictures = [url for url in opened.asked if url.endswith(".jpg")]
    assert 0 < len(set(pictures)) < N
    assert all("/many.thumbnails/" in url for url in pictures)


def test_without_slides_the_page_shows_no_empty_frames(
    open_page: Open, cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bare.html"
    report_page(cohort / "vectors.parquet", out, options=ReportOptions(umap=False))
    opened = open_page(out)
    opened.point_at("slide 007")
    assert opened.page.inner_text("#atlas-card .id") == "slide 007"
    assert opened.page.locator(".shot:visible").count() == 0


def test_many_slides_are_drawn_by_webgl(open_page: Open, cohort: Path, tmp_path: Path) -> None:
    first = table_of(cohort).rows()[0]
    vectors = np.random.default_rng(0).standard_normal((2001, len(first.embedding)))
    rows = [
        replace(first, slide_id=f"{EVIL} {k:04}", patient_id=f"p{k}", embedding=l2_normalised(v))
        for k, v in enumerate(vectors)
    ]
    save_table(table_from_rows(rows, provenance={}), tmp_path / "v.parquet")
    out = tmp_path / "gl.html"
    report_page(tmp_path / "v.parquet", out, options=ReportOptions(umap=False))
    opened = open_page(out)
    # WebGL in software: what it says of its own slowness is no fault of the page
    opened.complaints[:] = [c for c in opened.complaints if "GPU stall" not in c]
    kind = opened.page.evaluate("document.getElementById('atlas-plot').data[0].type")
    has_webgl = opened.page.evaluate(
        "Boolean(document.createElement('canvas').getContext('webgl'))"
    )
    assert kind == ("scattergl" if has_webgl else "scatter")
