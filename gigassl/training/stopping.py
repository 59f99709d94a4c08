"""Being asked to stop: Ctrl-C, or the SIGTERM by which SLURM takes a machine back."""

import signal
import threading
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, Literal

Asked = Literal["SIGINT", "SIGTERM"]

ASKED: tuple[Asked, ...] = ("SIGINT", "SIGTERM")


class StopSignals(AbstractContextManager["StopSignals"]):
    """Notes Ctrl-C and SIGTERM while inside, so that the step in hand can be finished.

    A second Ctrl-C interrupts at once. Only a program's main thread can be asked; elsewhere
    nothing changes.

    Attributes:
        asked: the first signal that came; None as long as none did.
    """

    def __init__(self) -> None:
        self.asked: Asked | None = None
        self._before: dict[Asked, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for name in ASKED:
                self._before[name] = signal.signal(getattr(signal, name), self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name, handler in self._before.items():
            signal.signal(getattr(signal, name), handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        name: Asked = "SIGINT" if number == signal.SIGINT else "SIGTERM"
        if name == "SIGINT" and self.asked is not None:
            raise KeyboardInterrupt
        self.asked = self.asked or name
