"""Room on a disk: so many bytes, given out in the order in which they were asked for."""

import threading

from gigassl.errors import GigasslError


class StoppedError(GigasslError):
    """The run ended while something waited for room, or was being fetched."""


class Room:
    """Bytes that may be in use at once; who comes first is served first.

    Serving in order keeps two waiting slides from blocking each other: the slide that is needed
    next never waits for one that is needed later.

    Attributes:
        n_bytes: all there are.
    """

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._used, self._next = 0, 0
        self._waiting: set[int] = set()
        self._changed = threading.Condition()

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self._used

    def ticket(self) -> int:
        """A place in the queue; it is given up by ``take`` or by ``leave``."""
        with self._changed:
            self._next += 1
            self._waiting.add(self._next)
            return self._next

    def take(self, ticket: int, n_bytes: int, *, stop: threading.Event) -> None:
        """Waits until it is this ticket's turn and there is room.

        Args:
            stop: see ``stop_waiting``.

        Raises:
            StoppedError: the run has ended.
        """
        with self._changed:
            self._waiting.add(ticket)
            while not stop.is_set():
                if min(self._waiting) == ticket and self._used + n_bytes <= self.n_bytes:
                    self._used += n_bytes
                    self._leave(ticket)
                    return
                self._changed.wait()
        raise StoppedError("the run has ended")

    def leave(self, ticket: int) -> None:
        """Gives up a place in the queue, if it is still held."""
        with self._changed:
            self._leave(ticket)

    def give_back(self, n_bytes: int) -> None:
        """Makes bytes free again."""
        with self._changed:
            self._used -= n_bytes
            self._changed.notify_all()

    def stop_waiting(self, stop: threading.Event) -> None:
        """Ends all waiting that this event stops."""
        with self._changed:
            stop.set()
            self._changed.notify_all()

    def _leave(self, ticket: int) -> None:
        self._waiting.discard(ticket)
        self._changed.notify_all()
