"""Environments for the peers: one each, because their requirements exclude one another."""

import subprocess
import venv
from collections.abc import Mapping
from pathlib import Path

from benchmarks.report import line

REQUIREMENTS = Path(__file__).parent / "requirements"
INSTALLED = ("lazyslide", "slide2vec")


def python_of(environments: Path, module: str) -> Path:
    return environments / module / "bin" / "python"


def pythons(environments: Path, *, here: Path) -> Mapping[str, Path]:
    """The interpreter by contender; what has no environment of its own runs in ours.

    Raises:
        SystemExit: an environment is missing.
    """
    found = {module: python_of(environments, module) for module in INSTALLED}
    missing = [module for module, python in found.items() if not python.is_file()]
    if missing:
        raise SystemExit(
            f"no environment of {', '.join(missing)} in {environments}; make it with "
            f"python -m benchmarks.embed_vs_peers --install {environments}"
        )
    return {**found, "gigassl": here, "plain": here}


def install(environments: Path) -> None:
    """Makes what is missing; about 7 GB each, of which 5 are PyTorch with CUDA."""
    for module in INSTALLED:
        folder = environments / module
        if not folder.exists():
            venv.create(folder, with_pip=True)
        wanted = REQUIREMENTS / f"{module}.txt"
        command = [str(python_of(environments, module)), "-m", "pip", "install", "--no-cache-dir"]
        subprocess.run([*command, "--requirement", str(wanted)], check=True)
        line(module, sum(1 for _ in wanted.open(encoding="utf-8")) - 1, unit="packages")
