"""The program itself: help, version, speed of starting, errors as sentences."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gigassl.cli.main import app

COMMANDS = (
    "demo", "doctor", "inspect", "embed", "encode", "pretrain", "import-model", "merge", "probe",
    "mil", "fewshot", "inductive", "compare", "sites", "screen", "fit", "predict", "import-vectors",
    "probe-tiles", "pretrain-tiles", "synth", "run", "explain",
    "verify", "report", "search",
)  # fmt: skip


def test_help_lists_every_command() -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command: str) -> None:
    assert f"gigassl {command}" in CliRunner().invoke(app, [command, "--help"]).stdout


def test_help_answers_at_once() -> None:
    code = "from gigassl.cli.main import run; run()"
    seconds = []
    for _ in range(5):
        begin = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code, "--help"], check=True, capture_output=True)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime)
    # the processor's time, and the least of several: what else the machine does does not count
    assert min(seconds) < 0.3


def test_an_error_is_one_sentence_unless_debugging(tmp_path: Path) -> None:
    arguments = ["inspect", str(tmp_path / "absent.parquet")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert done.stderr == f"gigassl: no such file: {tmp_path / 'absent.parquet'}\n"
    debugging = CliRunner().invoke(app, ["--debug", *arguments])
    assert debugging.exception is not None
    assert "no such file" in str(debugging.exception)


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("gigassl 0.")
