"""The documentation: it builds without a warning, and says what the program is."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.config import load_config

import gigassl
from docs.tools.api import LAYERS, names_of
from docs.tools.capture import EXAMPLES, read_examples
from docs.tools.doctests import fenced
from docs.tools.hooks import filled, lists_apart, notebook_markdown
from docs.tools.options import commands, flags, option_tables
from gigassl.bags.bank_info import FILES
from gigassl.bags.info import BagInfo, attributes_from_info
from gigassl.evaluate.predictions import COLUMNS
from gigassl.pipeline.failures import COLUMNS as FAILURE_COLUMNS
from gigassl.vectors.table import COLUMN_NAMES
from tests.shared_data import REPO_ROOT

DOCS = REPO_ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = {page: page.read_text(encoding="utf-8") for page in [*PAGES, REPO_ROOT / "README.md"]}
FORMATS = (DOCS / "formats.md").read_text(encoding="utf-8")
COMMANDS = commands()
EXAMPLES_BY_NAME = read_examples()


def in_nav(entries: object) -> set[str]:
    """All pages that the navigation names."""
    if isinstance(entries, str):
        return {entries}
    parts = entries.values() if isinstance(entries, dict) else entries
    assert hasattr(parts, "__iter__")
    return {page for part in parts for page in in_nav(part)}


def first_column(heading: str) -> list[str]:
    """What stands in backticks in the first column of the tables below a heading of formats.md."""
    part = FORMATS.split(f"\n## {heading}", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", part, flags=re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_has_a_page_with_its_options_and_a_real_example(name: str) -> None:
    page = DOCS / "commands" / f"{name.replace(' ', '-')}.md"
    text = page.read_text(encoding="utf-8")
    assert f"<!-- options {name} -->" in text
    commands_shown = [line for e in examples_of(text) for line in EXAMPLES_BY_NAME[e].commands]
    assert any(f"gigassl {name} " in f"{line} " for line in commands_shown)
    assert f"({page.name})" in (page.parent / "index.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"`(--?[a-z][a-z0-9-]*)`", option_tables(COMMANDS[name])))
    assert shown | {"--help", "-h"} == flags(COMMANDS[name])


def examples_of(text: str) -> list[str]:
    return re.findall(r"^<!-- example (.+) -->$", text, flags=re.MULTILINE)


def test_examples_shown_are_those_that_were_captured() -> None:
    for name, example in EXAMPLES_BY_NAME.items():
        captured = (EXAMPLES / f"{name}.txt").read_text(encoding="utf-8")
        lines = [line[2:] for line in captured.splitlines() if line.startswith("$ ")]
        assert lines == list(example.commands), name
    shown = {name for text in TEXTS.values() for name in examples_of(text)}
    assert shown <= EXAMPLES_BY_NAME.keys()
    assert {path.stem for path in EXAMPLES.glob("*.txt")} == EXAMPLES_BY_NAME.keys()


def test_commands_in_all_pages_exist_with_their_options() -> None:
    known, wrong = COMMANDS, []
    captured = {path: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.txt")}
    seen = 0
    for page, text in {**TEXTS, **captured}.items():
        for line in re.findall(r"(?:^|`|\$ |-- )gigassl (.+)$", text, flags=re.MULTILINE):
            said = re.split(r"[`#|]", line)[0]
            words = said.split()
            group = " ".join(words[:2])
            name = group if group in known else (words or [""])[0]
            if name not in known:
                continue
            seen += 1
            named = set(re.findall(r"(?<!\S)(--[a-z][a-z-]+)", said)) - {"--json"}
            wrong += [f"{page.name}: {name} {flag}" for flag in named - flags(known[name])]
    assert wrong == []
    assert seen > 60


def test_all_public_names_are_in_the_reference() -> None:
    reference = "".join(filled(page.read_text()) for page in (DOCS / "api").glob("*.md"))
    missing = [name for name in gigassl.__all__ if f"heading: gigassl.{name}\n" not in reference]
    assert missing == []
    assert sorted(n for layer in (*LAYERS, "other") for n in names_of(layer)) == sorted(
        gigassl.__all__
    )


def test_file_formats_are_those_of_the_program() -> None:
    assert first_column("Vectors") == list(COLUMN_NAMES)
    assert first_column("Predictions") == list(COLUMNS)
    assert set(first_column("Bank")) == FILES
    assert ",".join(FAILURE_COLUMNS) in FORMATS
    bag = BagInfo(
        slide_id="s", encoder="e", width_l0=1, height_l0=1, mpp_l0=1.0, tile_px=1, side_l0=1.0,
        target_mpp=1.0, effective_mpp=1.0, overlap_px=0,
    )  # fmt: skip
    assert None not in vars(bag).values()  # a new fact of a bag belongs into the table
    written = {"format", "version", *attributes_from_info(bag)}
    assert set(first_column("Bags")) == {"features", "coords", "variants", *written}


def test_the_site_names_no_other_host_and_every_page_has_its_place() -> None:
    config = load_config(str(REPO_ROOT / "mkdocs.yml"))
    assert config.nav is not None
    pages = {str(page.relative_to(DOCS)) for page in PAGES}
    notebooks = {str(p.relative_to(DOCS).with_suffix(".md")) for p in DOCS.rglob("*.ipynb")}
    assert in_nav(config.nav) == pages | notebooks
    assert config.theme["font"] is False


def test_readme_links_lead_somewhere() -> None:
    text = TEXTS[REPO_ROOT / "README.md"]
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    assert len(links) > 10
    assert [link for link in links if not (REPO_ROOT / link).exists()] == []


def test_an_unknown_thing_asked_for_is_an_error() -> None:
    with pytest.raises(KeyError):
        filled("<!-- options embd -->")
    with pytest.raises(FileNotFoundError):
        filled("<!-- example embd -->")


def test_doctests_become_code_and_other_text_stays() -> None:
    text = "One.\n\n>>> f(1)\n[2, 3]\n\nMore > less.\n"
    assert fenced(text) == "One.\n\n```pycon\n>>> f(1)\n[2, 3]\n```\n\nMore > less."
    assert fenced("No doctest.") == "No doctest."


def test_lists_stand_apart_from_the_text_before_them() -> None:
    assert lists_apart("Such as:\n- a\n  b\n- c\n1. d\n") == "Such as:\n\n- a\n  b\n- c\n1. d\n"
    code = "```\nx\n- a\n```\n"
    assert lists_apart(code) == code


def test_a_notebook_becomes_a_page(tmp_path: Path) -> None:
    picture = {"output_type": "display_data", "data": {"image/png": "iVBO\nRw0KGgo="}}
    shown = {"output_type": "stream", "name": "stdout", "text": ["12 slides\n"]}
    code = {
        "cell_type": "code", "id": "b", "execution_count": 1, "source": ["print(12)"],
        "outputs": [shown, {**picture, "metadata": {}}], "metadata": {},
    }  # fmt: skip
    title = {"cell_type": "markdown", "id": "a", "source": ["# Title"], "metadata": {}}
    book = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [title, code]}
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(book), encoding="utf-8")
    assert notebook_markdown(path) == (
        "# Title\n\n```python\nprint(12)\n```\n\n```text\n12 slides\n```\n\n"
        "![](data:image/png;base64,iVBORw0KGgo=)\n"
    )


def test_it_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=REPO_ROOT, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[-3000:]
    loads = re.compile(r"<(?:script|link|img|iframe)[^>]+?(?:src|href)=\"?(?:https?:)?//[^\s\">]+")
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    found = {hit for page in pages for hit in loads.findall(page.read_text(encoding="utf-8"))}
    assert found == set()
    reference = (tmp_path / "api" / "pipeline.html").read_text(encoding="utf-8")
    assert 'id="gigassl.pipeline.embed.embed"' in reference
