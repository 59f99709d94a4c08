"""What the README shows, works."""

import re
from pathlib import Path

import pytest

from tests.shared_data import REPO_ROOT

COMMANDS = (
    "embed", "encode", "pretrain", "import-model", "merge", "doctor", "inspect", "demo", "probe",
    "mil", "fewshot", "inductive", "compare", "sites", "screen", "fit", "predict", "import-vectors",
    "probe-tiles", "pretrain-tiles", "synth nic", "synth needles", "run", "explain",
    "verify", "report", "search",
)  # fmt: skip
README = (REPO_ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(
    slides: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    (tmp_path / "slides").symlink_to(slides)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert "Neighbour(slide_id=" in capsys.readouterr().out
    assert (tmp_path / "vectors.parquet").is_file()
    assert len(list((tmp_path / "seen").glob("*.png"))) == 3


def test_every_command_and_public_option_named_there_exists() -> None:
    from typer.testing import CliRunner

    from gigassl.cli.main import app

    helps = "".join(
        CliRunner(env={"COLUMNS": "300"}).invoke(app, [*command.split(), "--help"]).stdout
        for command in COMMANDS
    )
    known = set(re.findall(r"--[a-z][a-z-]+", helps)) | {"--debug"}
    named = set(re.findall(r"`(?:gigassl )?[^`\n]*?(--[a-z][a-z-]+)", README))
    assert len(named) > 8
    assert named <= known


def test_the_readmes_test_command_is_what_the_gate_runs() -> None:
    assert "make test" in README
    assert "make test" in (REPO_ROOT / ".ci" / "run").read_text()
