"""Starts real ``gigassl`` processes quickly: the slow imports are done once, each run is forked.

What is forked runs the program's own entry point with its own command line; killing it is killing
``gigassl embed``. Imports take most of the time of a run of a few tiny slides.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

REPO = Path(__file__).resolve().parents[2]


class Launcher:
    """A process that forks one ``gigassl`` process for each command line.

    Args:
        before: what the launcher is started through, such as ``unshare``.
    """

    def __init__(self, *, before: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", "tests.faults.launcher"], cwd=REPO, text=True,
            bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def start(self, arguments: Sequence[object], *, log: Path) -> int:
        """The number of a new ``gigassl`` process with these arguments; its output goes to log."""
        return self._ask({"arguments": [str(a) for a in arguments], "log": str(log)})

    def shell(self, *command: object) -> int:
        """Runs another command where the launcher runs; its exit code."""
        return self._ask({"shell": [str(word) for word in command]})

    def wait(self, pid: int) -> int:
        """Waits for the end of a process: its exit code, or minus the signal that ended it."""
        return self._ask({"wait": pid})

    def ended(self, pid: int) -> bool:
        """Whether a process has ended and was not waited for yet."""
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z"

    def kill(self, pid: int) -> int:
        """``kill -9``, and what ``wait`` says then."""
        os.kill(pid, signal.SIGKILL)
        return self.wait(pid)

    def close(self) -> None:
        """Ends the launcher."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, question: dict[str, object]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        return int(self._process.stdout.readline())

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def serve() -> None:
    """The launcher's side: one question a line, one number an answer."""
    import gigassl.cli.main
    import gigassl.pipeline.bank
    import gigassl.pipeline.embed
    import gigassl.pipeline.encode
    import gigassl.pipeline.explain
    import gigassl.pipeline.fit
    import gigassl.pipeline.mil
    import gigassl.pipeline.pretrain
    import gigassl.pipeline.probe  # noqa: F401

    for line in sys.stdin:
        question = json.loads(line)
        if "shell" in question:
            done = subprocess.run(question["shell"], stdout=subprocess.DEVNULL, check=False)
            print(done.returncode, flush=True)
        elif "wait" in question:
            _, status = os.waitpid(question["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
        else:
            print(_fork(question["arguments"], log=question["log"]), flush=True)


def _fork(arguments: list[str], *, log: str) -> int:
    child = os.fork()
    if child:
        return child
    os.setsid()  # what ends a whole group of processes, as Ray does, is not to end the launcher
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, said), (2, said)):
        os.dup2(source, target)
    sys.argv = ["gigassl", *arguments]
    code = 1
    try:
        gigassl_run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def gigassl_run() -> None:
    from gigassl.cli.main import run

    run()


if __name__ == "__main__":
    serve()
