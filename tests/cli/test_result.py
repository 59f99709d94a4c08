"""How a run ends on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import typer

from gigassl.cli.result import finish, finish_training


@dataclass
class Ended:
    failures: Sequence[object] = ()
    interrupted: bool = False

    def summary(self) -> dict[str, Any]:
        return {"done": 1}

    def sentence(self) -> str:
        return "all is said"


@pytest.mark.parametrize(
    ("result", "alarm", "code"),
    [(Ended(), "", 0), (Ended(failures=["x"]), "", 1), (Ended(), "wrong", 1),
     (Ended(interrupted=True), "wrong", 130)],
)  # fmt: skip
def test_the_exit_code_says_how_it_ended(
    result: Ended, alarm: str, code: int, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for end in (finish, finish_training):
        with pytest.raises(typer.Exit) as ended:
            end(result, as_json=False, alarm=alarm)
        assert ended.value.exit_code == code
        assert capsys.readouterr().out == "all is said\n"


def test_of_processes_that_share_a_training_the_first_speaks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(typer.Exit) as ended:
        finish_training(Ended(interrupted=True), as_json=False, alarm="wrong")
    assert ended.value.exit_code == 0
    assert capsys.readouterr().out == ""
