"""Fills pages while mkdocs builds them: options, examples, public names; turns notebooks to pages.

A page asks for them by a comment on a line of its own: ``<!-- options embed -->``,
``<!-- example embed -->``, ``<!-- api vectors -->``.
"""

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

# mkdocs runs this file by its path, which puts nothing on the path of imports
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from docs.tools.api import directives
from docs.tools.capture import EXAMPLES
from docs.tools.options import commands, option_tables

_ASKED = re.compile(r"^<!-- (options|example|api) (.+?) -->$", flags=re.MULTILINE)

_ITEM = re.compile(r"(?:-|\d+\.) ")
_IN_LIST = re.compile(r"(?:-|\d+\.) |\s")


def filled(markdown: str) -> str:
    """A page's text with everything that it asks for."""
    return _ASKED.sub(lambda asked: _answer(asked[1], asked[2]), markdown)


def lists_apart(markdown: str) -> str:
    """The text with an empty line before each list, as GitHub does without and mkdocs does not."""
    lines: list[str] = []
    code = False
    for line in markdown.splitlines():
        code ^= line.lstrip().startswith("```")
        before = lines[-1] if lines else ""
        if not code and _ITEM.match(line) and before.strip() and not _IN_LIST.match(before):
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"


def _answer(what: str, name: str) -> str:
    if what == "options":
        return option_tables(commands()[name])
    if what == "api":
        return directives(name)
    return f"```console\n{(EXAMPLES / f'{name}.txt').read_text(encoding='utf-8').rstrip()}\n```"


def notebook_markdown(path: Path) -> str:
    """A notebook as Markdown: its texts, code and outputs; pictures stand in the text itself."""
    cells = nbformat.read(path, as_version=4).cells  # type: ignore[no-untyped-call]
    return "\n\n".join(_cell_markdown(cell) for cell in cells) + "\n"


def _cell_markdown(cell: Any) -> str:
    if cell.cell_type != "code":
        return str(cell.source)
    shown = [f"```python\n{cell.source}\n```"]
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            shown.append(f"![](data:image/png;base64,{''.join(data['image/png'].split())})")
        elif text := output.get("text", data.get("text/plain", "")):
            shown.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(shown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every notebook in docs/ becomes a page of the same name."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        text = notebook_markdown(Path(str(file.abs_src_path)))
        page = file.src_uri.removesuffix(".ipynb") + ".md"
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs for each page.

    Raises:
        PluginError: a page asks for a command, example or layer that does not exist.
    """
    try:
        return lists_apart(filled(markdown))
    except (KeyError, OSError) as error:
        raise PluginError(f"a page asks for what does not exist: {error}") from error
