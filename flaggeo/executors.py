"""Where layers are measured: processes of this machine, or the workers of a Dask cluster."""

from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

# Times that Dask gives a layer to another worker where one is lost, and seconds to reach the scheduler.
_RETRIES, _TIMEOUT = 3, 10


@contextmanager
def executor_of(jobs: int, scheduler: str | None = None) -> Iterator[Executor | None]:
    """What measures the layers until the block ends.

    Parameters
    ----------
    jobs : int
        Number of processes, which share the cores of this machine; with 1 there is no executor, and the threads of this
        process do all.
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://host:8786``, in place of processes.

    Yields
    ------
    executor : Executor or None

    Raises
    ------
    ModuleNotFoundError
        If there is an address and Dask is not installed.
    OSError
        If nothing answers there.
    """
    if scheduler is not None:
        try:
            from dask.distributed import Client
        except ModuleNotFoundError:
            raise ModuleNotFoundError('--scheduler needs Dask: pip install "flaggeo[dask]"') from None
        with Client(scheduler, timeout=_TIMEOUT) as client:  # type: ignore[no-untyped-call]
            yield client.get_executor(retries=_RETRIES, pure=False)
    elif jobs > 1:
        import torch

        threads = max(1, torch.get_num_threads() // jobs)
        with ProcessPoolExecutor(
            jobs, mp_context=get_context("spawn"), initializer=_set_threads, initargs=(threads,)
        ) as pool:
            yield pool
    else:
        yield None


def _set_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)
