"""Runs the examples of the documentation and keeps what they print, one text file each.

    python -m docs.tools.capture --world DIR [NAME …]

The commands stand in ``examples.toml`` and run in that order in one folder, on synthetic slides.
What a later example needs must be there: without names all run, which takes about half an hour.
"""

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from docs.tools.world import PREPARATIONS

DOCS = Path(__file__).resolve().parents[1]
EXAMPLES = DOCS / "examples"
_WIDEST_PX = 900


@dataclass(frozen=True, kw_only=True)
class Example:
    """One example of a page.

    Attributes:
        commands: shell lines, shown as they are.
        before: what is laid ready, a name in ``PREPARATIONS``; not shown.
        exit_code: what the last command ends with.
        pictures: name in ``docs/images`` → picture that the commands made, which is kept, smaller.
    """

    commands: Sequence[str]
    before: str = ""
    exit_code: int = 0
    pictures: Mapping[str, str] = field(default_factory=dict)


def read_examples() -> Mapping[str, Example]:
    """Name → example, in the order in which they run."""
    table = tomllib.loads((Path(__file__).parent / "examples.toml").read_text(encoding="utf-8"))
    return {name: Example(**fields) for name, fields in table.items()}


def run_example(example: Example, world: Path) -> str:
    """The commands and what they printed, as a terminal shows them.

    Raises:
        RuntimeError: a command ended otherwise than expected, or printed a path of this machine.
    """
    setting = f'export PATH="{Path(sys.executable).parent}:$PATH" COLUMNS=110 NO_COLOR=1'
    shown = []
    for command in example.commands:
        ended = subprocess.run(
            ["bash", "-c", f"{setting}\n{command}"], cwd=world, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        shown.append(f"$ {command}\n{ended.stdout}".rstrip())
        last = command == example.commands[-1]
        if ended.returncode != (example.exit_code if last else 0):
            raise RuntimeError(f"{command}: exit code {ended.returncode}\n{ended.stdout}")
    text = "\n\n".join(shown) + "\n"
    if str(world) in text or str(DOCS.parent) in text:
        raise RuntimeError(f"a path of this machine in the output:\n{text}")
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def keep_pictures(example: Example, world: Path) -> None:
    """Copies the pictures of an example, no wider than a page."""
    for name, made in example.pictures.items():
        with Image.open(world / made) as picture:
            small = picture.convert("RGB")
            small.thumbnail((_WIDEST_PX, _WIDEST_PX))
            small.save(DOCS / "images" / name, quality=80, optimize=True)


def main() -> None:
    """Captures all examples, or those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--world", type=Path, required=True, help="folder that they run in")
    parser.add_argument("names", nargs="*", help="examples to run (all)")
    chosen = parser.parse_args()
    chosen.world.mkdir(parents=True, exist_ok=True)
    world = chosen.world.resolve()
    EXAMPLES.mkdir(exist_ok=True)
    for name, example in read_examples().items():
        if chosen.names and name not in chosen.names:
            continue
        if example.before:
            PREPARATIONS[example.before](world)
        (EXAMPLES / f"{name}.txt").write_text(run_example(example, world), encoding="utf-8")
        keep_pictures(example, world)
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
