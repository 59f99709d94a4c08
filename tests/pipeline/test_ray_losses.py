"""What happened to a slide on the cluster, in words."""

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskUnschedulableError,
    WorkerCrashedError,
)

from gigassl.pipeline.ray_losses import why_lost


@pytest.mark.parametrize(
    ("error", "said"),
    [  # Ray's errors are not annotated
        (
            OutOfMemoryError("…"),  # type: ignore[no-untyped-call]
            "the decoder was killed because its node ran out of memory; give",
        ),
        (NodeDiedError("…"), "the node of the decoder was lost"),  # type: ignore[no-untyped-call]
        (WorkerCrashedError(), "the process of the decoder died"),
        (ActorDiedError(), "the process of the decoder died"),
        (ActorUnavailableError("…", bytes(16)), "the decoder could not be reached any more"),
        (ObjectLostError("00" * 28, None, ""), "its tiles were lost between decoder and encoder"),
        (TaskUnschedulableError("no room\nat all"), "lost: TaskUnschedulableError: "),
        (
            RayTaskError("encode", "trace", RuntimeError("CUDA error: 700\nmore")),  # type: ignore[no-untyped-call]
            "the decoder failed: RuntimeError: CUDA error: 700",
        ),
    ],
)
def test_each_loss_says_what_it_was(error: RayError, said: str) -> None:
    words = why_lost(error, what="decoder")
    assert said in words
    assert "\n" not in words
