"""Why work on a Ray cluster was lost, in words for the failures file."""

from collections.abc import Mapping

from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

_WORDS: Mapping[type[RayError], str] = {
    OutOfMemoryError: "the {what} was killed because its node ran out of memory; give fewer "
    "--decoders, or more memory",
    NodeDiedError: "the node of the {what} was lost",
    WorkerCrashedError: "the process of the {what} died",
    ActorUnavailableError: "the {what} could not be reached any more",
    RayActorError: "the process of the {what} died",
    ObjectLostError: "its tiles were lost between {what} and encoder",
    OutOfDiskError: "the disk of the {what}'s node is full",
}


def why_lost(error: RayError, *, what: str) -> str:
    """One clause on what happened to a slide's ``what``: its encoder or its decoder."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        return f"the {what} failed: {type(cause).__name__}: {_first_line(str(cause))}"
    for kind, words in _WORDS.items():
        if isinstance(error, kind):
            return words.format(what=what)
    return f"the {what} was lost: {type(error).__name__}: {_first_line(str(error))}"


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
