"""Independent pieces of work side by side, each on one thread."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, Generic, Self, TypeVar, overload

import torch
from threadpoolctl import ThreadpoolController

T = TypeVar("T")


class cached_property(Generic[T]):  # noqa: N801, as that of functools
    """A property that is computed once for each object, as that of functools, but without a lock.

    Up to Python 3.11 functools' lock is one for all objects of a class, so that threads which measure different ones
    wait for each other. Here, threads that ask one object at the same time may each compute.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        # Later lookups find it there and do not come here.
        value = vars(instance)[self._name] = self._compute(instance)
        return value


class _Own(threading.local):
    """What belongs to one thread."""

    workers: ThreadPoolExecutor | None = None
    count: int | None = None


_own = _Own()


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch would use, each working alone; the one that asks for them works alone as well.

    The matrices of a network are many and small: side by side they keep all cores busy, and one matrix on one
    thread gives the same bits whatever the number of cores. The block ends when all is done, or at an error or
    interruption when what had begun is. A block inside another one of the same thread has its workers, since new
    ones take milliseconds to begin; it ends at once, and waits for its own results where it asks for them.
    """
    if _own.workers is not None:
        yield _own.workers
        return
    count = torch.get_num_threads()
    with (
        single_threaded_blas(),
        ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        _own.workers, _own.count = pool, count
        # For small pieces torch's threads take more time to meet than to work, and sums depend on their number.
        torch.set_num_threads(1)
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            _own.workers = _own.count = None
            torch.set_num_threads(count)


def thread_count() -> int:
    """Number of threads that `workers` has here, or would have."""
    return _own.count or torch.get_num_threads()


@contextmanager
def coordinators(count: int = 2) -> Iterator[ThreadPoolExecutor]:
    """Threads that give their work to the same `workers` and wait for it, so that no worker has to wait for another.

    Inside their tasks, `workers` are these. At an error or interruption, what the workers have not begun is cancelled.
    """
    with workers() as pool:
        threads = ThreadPoolExecutor(count, initializer=_share, initargs=(pool,))
        try:
            yield threads
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            threads.shutdown(cancel_futures=True)


def _share(pool: ThreadPoolExecutor) -> None:
    _own.workers = pool
    torch.set_num_threads(1)


def ahead(begun: Iterable[T], count: int = 1) -> Iterator[T]:
    """The same items, each when `count` more have been begun: their work waits behind this one's, and no core does."""
    waiting: deque[T] = deque()
    for item in begun:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


class Room:
    """Lets pieces of work go on together while their sizes add up to no more than a limit, and a larger one alone.

    Parameters
    ----------
    size : int
        The limit, in whatever unit the pieces are measured in.
    """

    def __init__(self, size: int) -> None:
        self._size, self._taken, self._left = size, 0, threading.Condition()

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Wait until there is room for a piece, and take it as long as the block lasts."""
        with self._left:
            self._left.wait_for(lambda: not self._taken or self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            with self._left:
                self._taken -= size
                self._left.notify_all()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold the pools of threads of NumPy and SciPy to one; torch's own is left alone.

    Whoever decomposes in several threads of Python enters it around them all: the limit belongs to the
    process, and threads that set and restore it by turns would leave it wrong.
    """
    with _thread_pools().limit(limits=1, user_api="blas"):
        yield


@cache
def _thread_pools() -> ThreadpoolController:
    return ThreadpoolController()
