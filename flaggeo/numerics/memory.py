"""Memory that was freed and is still the process's, where that is more than a large model leaves room for.

The functions speak to glibc; elsewhere they do nothing.
"""

import ctypes
import sys
from functools import cache

# The number that glibc's header has for the size from which a block is memory of its own, and the size in bytes.
_MMAP_THRESHOLD, _LARGE = -3, 2**23


def give_back_freed() -> None:
    """Give the system what lies freed between what is in use: half a gigabyte after the layers of a model of 8B.

    References
    ----------
    The manual page malloc_trim(3).
    """
    _call("malloc_trim", 0)


def keep_no_large_blocks() -> None:
    """From now on, give blocks of 8 MiB or more back as soon as they are freed.

    By itself glibc comes to keep blocks of up to 32 MiB for later ones, and small results that lie between them leave
    holes: more than a gigabyte where a tensor of 128,256 x 4,096 is read many times. New memory takes time instead, a
    fifth of that.

    References
    ----------
    The manual page mallopt(3), M_MMAP_THRESHOLD.
    """
    _call("mallopt", _MMAP_THRESHOLD, _LARGE)


def _call(name: str, *arguments: int) -> None:
    function = getattr(_libc(), name, None)
    if function is not None:
        function(*arguments)


@cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
