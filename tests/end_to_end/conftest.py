"""Running the program as a user does, in this process."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from gigassl.cli.main import app


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs ``gigassl`` with the arguments given; an unexpected exception fails the test."""

    def invoke(*arguments: object) -> Ran:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(code=done.exit_code, out=done.stdout, err=done.stderr)

    yield invoke
    logging.getLogger().handlers.clear()  # they point at the runner's closed streams
