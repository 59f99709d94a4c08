"""A browser that goes nowhere: pages are opened from disk, and everything they ask for is noted."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, Request, Route, sync_playwright

from gigassl.pipeline.report import ReportOptions, report_page
from tests.pages.cohorts import cohort_on_disk

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
Scheme = Literal["light", "dark"]


_POINTED_AT = """(name) => {
    const card = document.getElementById("atlas-card");
    return !card.hidden && card.querySelector(".id")?.textContent === name;
}"""
_CHOSEN = "(name) => document.querySelector('#atlas-near h3')?.textContent === name"


@dataclass
class Opened:
    """A page, and what it did meanwhile."""

    page: Page
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def place(self, slide_id: str) -> tuple[float, float]:
        """Where a slide's point lies on the screen, px."""
        x, y = self.page.evaluate(
            """(id) => {
                const plot = document.getElementById("atlas-plot");
                const {xaxis, yaxis} = plot._fullLayout, box = plot.getBoundingClientRect();
                const data = JSON.parse(document.getElementById("atlas-data").textContent);
                const row = data.ids.indexOf(id);
                for (const trace of plot.data) {
                    const at = (trace.customdata || []).indexOf(row);
                    if (at >= 0) return [
                        box.left + xaxis._offset + xaxis.d2p(trace.x[at]),
                        box.top + yaxis._offset + yaxis.d2p(trace.y[at])];
                }
            }""",
            slide_id,
        )
        return float(x), float(y)

    def point_at(self, slide_id: str) -> None:
        """Moves the pointer onto a slide, until its card is shown."""
        x, y = self.place(slide_id)
        self.page.mouse.move(x + 6, y)
        self.page.mouse.move(x, y)
        self.page.wait_for_function(_POINTED_AT, arg=slide_id)

    def click(self, slide_id: str) -> None:
        """Clicks a slide, until its nearest are shown."""
        self.point_at(slide_id)
        self.page.mouse.down()
        self.page.mouse.up()
        self.page.wait_for_function(_CHOSEN, arg=slide_id)


Open = Callable[..., Opened]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Opens a page; at the end of the test nothing may have left it or failed."""
    opened: list[Opened] = []

    def opening(path: Path, *, scheme: Scheme = "light", width: int = 1400) -> Opened:
        page = browser.new_page(
            viewport={"width": width, "height": 1000}, color_scheme=scheme, reduced_motion="reduce"
        )
        seen = Opened(page=page)
        opened.append(seen)

        def route(route: Route, request: Request) -> None:
            if not request.url.startswith("data:"):
                seen.asked.append(request.url)
            if request.url.startswith(("file:", "data:")):
                route.continue_()
            else:
                route.abort()

        page.route("**/*", route)
        page.on("console", lambda m: seen.complaints.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("dialog", lambda dialog: seen.complaints.append(f"dialog: {dialog.message}"))
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("#atlas[data-ready]", timeout=60_000)
        page.evaluate("document.getElementById('map').scrollIntoView()")
        return seen

    yield opening
    for each in opened:
        asked = [url for url in each.asked if not url.startswith("file:")]
        each.page.close()
        assert (asked, each.complaints) == ([], [])


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_on_disk(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="session")
def report(cohort: Path) -> Path:
    """A report with thumbnails inside the page; without UMAP, which takes long to load."""
    out = cohort / "report.html"
    result = report_page(
        cohort / "vectors.parquet", out,
        options=ReportOptions(
            labels=(cohort / "labels.csv",), slides=cohort / "slides.csv", target="subtype",
            site_columns=("hospital",), umap=False,
        ),
    )  # fmt: skip
    assert not result.failures
    return out
