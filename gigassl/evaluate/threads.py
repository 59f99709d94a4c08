"""One thread: sums in one order, so that equal inputs give equal bytes on any machine's cores."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, matrix products and decompositions run on one thread; also a decorator.

    How a product is divided among threads decides in which order it is summed, and rounding
    depends on the order.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)
