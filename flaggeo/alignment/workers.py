"""Threads that share small pieces of linear algebra among the cores."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from ..spectrum import single_threaded_lapack


@contextmanager
def single_threaded_workers() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch would use, each working alone.

    For independent and small pieces: side by side they keep all cores busy, and one piece on one thread gives
    the same bits whatever the number of cores.
    """
    with (
        single_threaded_lapack(),
        ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        yield pool
