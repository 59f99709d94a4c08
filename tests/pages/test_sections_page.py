"""Evaluation and explanations in a browser: choices, figures, heat, light and dark, narrow."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from gigassl.evaluate.comparison import CompareSettings
from gigassl.evaluate.predictions import Method
from gigassl.report.page.evaluation import evaluation_sections
from gigassl.report.page.explanations import explanation_sections
from gigassl.report.page.frame import page
from tests.evaluate.prediction_tables import folds_of, predictions_of, task_of
from tests.report.page.explained import COLS, SIDE, record_of, save_explained

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two training sizes, and of two slides that two systems explained."""
    home = tmp_path_factory.mktemp("page")
    task = replace(task_of([0, 1] * 24), classes=("benign", EVIL))
    splits = [split for size in ("10", "full") for split in folds_of(task, size=size)]
    methods = [
        (Method(name=f"probe {EVIL}"), 1.5), (Method(name="abmil"), 0.8),
        (Method(name="tile-count", control="tile-count"), 0.1),
    ]  # fmt: skip
    for number, (method, meaning) in enumerate([("probe", "contribution"), ("abmil", "attention")]):
        for slide in ("s1", EVIL.replace("/", "")):
            record = record_of(slide, meaning=meaning, method=method, explained=EVIL)
            save_explained(home / method, record, seed=number)
    sections = [
        *evaluation_sections(
            [predictions_of(task, splits, methods)], settings=CompareSettings(draws=100)
        ),
        *explanation_sections([home / "probe", home / "abmil"]),
    ]
    (home / "page.html").write_text(page("Sections", sections), encoding="utf-8")
    return home / "page.html"


@contextmanager
def opened(browser: Browser, path: Path, *, scheme: str, width: int = 1400) -> Iterator[Page]:
    """The page; at the end nothing may have been asked for, and nothing may have failed."""
    wrong: list[str] = []
    found = browser.new_page(
        viewport={"width": width, "height": 900}, reduced_motion="reduce",
        color_scheme="dark" if scheme == "dark" else "light",
    )  # fmt: skip
    found.on("console", lambda said: wrong.append(said.text))
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("dialog", lambda dialog: wrong.append(dialog.message))
    found.on("request", lambda asked: wrong.append(asked.url[:80]))
    found.goto(path.as_uri())
    yield found
    found.close()
    assert [each for each in wrong if not each.startswith(("file:", "data:"))] == []
    assert sum(each.startswith("file:") for each in wrong) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_are_drawn_in_the_colours_of_the_page(
    browser: Browser, written: Path, scheme: str
) -> None:
    with opened(browser, written, scheme=scheme) as found:
        found.wait_for_selector("figure .plot[data-drawn] .legend")
        layout = found.evaluate("document.querySelector('.plot').layout.font.color")
        text = found.evaluate("getComputedStyle(document.body).color")
        assert layout == text
        names = found.locator(".plot[data-drawn]").first.locator(".legendtext").all_text_contents()
        assert names == [f"probe {EVIL}", "abmil", "tile-count"]
        # the swatch of a method in the table has the colour of its line
        swatch = found.locator("tr", has_text="abmil").first.locator(".swatch")
        line = found.evaluate(
            "[...document.querySelector('.plot').data].find(t => t.name === 'abmil').line.color"
        )
        found.evaluate("document.body.insertAdjacentHTML('beforeend', '<i id=c></i>')")
        found.evaluate("c => document.getElementById('c').style.color = c", line)
        drawn = found.evaluate("getComputedStyle(document.getElementById('c')).color")
        shown = swatch.evaluate("each => getComputedStyle(each).backgroundColor")
        assert shown == drawn


def test_a_choice_shows_one_panel_and_draws_its_figures(browser: Browser, written: Path) -> None:
    with opened(browser, written, scheme="light") as found:
        sizes = found.locator("#evaluation-1 .choice").first
        panels = sizes.locator(":scope > .panel")
        assert [panels.nth(k).is_visible() for k in range(2)] == [True, False]
        sizes.locator(":scope > label > select").select_option("10")
        assert [panels.nth(k).is_visible() for k in range(2)] == [False, True]
        second = panels.nth(1)
        methods = second.locator(".choice", has=found.locator("option", has_text="abmil")).first
        before = second.locator(".confusion:visible b").all_inner_texts()
        methods.locator(":scope > label > select").select_option("abmil")
        after = second.locator(".confusion:visible b").all_inner_texts()
        assert len(before) == len(after) == 4
        assert before != after
        plot = second.locator(".plot").first
        plot.scroll_into_view_if_needed()
        second.locator(".plot[data-drawn] .legend").first.wait_for()
        box = plot.bounding_box()
        assert box is not None
        assert box["width"] > 300


def test_heat_lies_on_its_tiles_and_covers_as_much_as_is_wanted(
    browser: Browser, written: Path
) -> None:
    with opened(browser, written, scheme="light") as found:
        heats = found.locator("#explanations .heats:visible")
        pictures = heats.locator(".heat .ground img:visible")
        assert pictures.count() == 2
        ground = heats.locator(".heat:visible .ground").nth(1)
        whole, heat = ground.bounding_box(), pictures.first.bounding_box()
        assert whole is not None
        assert heat is not None
        # the slide is 30 px wider than its tiles, and the heat's last column is partly beyond it
        inner = whole["width"] - 2
        assert heat["x"] == pytest.approx(whole["x"] + 1, abs=1)
        per_px = inner / (COLS * SIDE + 30)
        tiles_px = pictures.first.evaluate("each => each.naturalWidth") * SIDE / 4
        assert heat["width"] == pytest.approx(tiles_px * per_px, abs=1.5)
        heats.locator("input[type=range]").fill("0.2")
        assert pictures.first.evaluate("each => getComputedStyle(each).opacity") == "0.2"
        first = pictures.first.get_attribute("src")
        heats.locator("select").select_option("each system's own values")
        assert pictures.count() == 2
        assert pictures.first.get_attribute("src") != first
        assert heats.locator(".tiles img").count() == 2 * 2 * 6
        found.locator("#explanations select").first.select_option(index=0)
        assert EVIL.replace("/", "") in found.locator("#explanations option").all_inner_texts()[0]


def test_a_narrow_page_does_not_scroll_sideways(browser: Browser, written: Path) -> None:
    with opened(browser, written, scheme="dark", width=390) as found:
        found.wait_for_selector("figure .plot[data-drawn] .legend")
        assert found.evaluate("document.documentElement.scrollWidth") <= 390
