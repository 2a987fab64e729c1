"""Each in a process of its own, since memory that other tests freed would count, and a threshold stays."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has these functions")

_FREED_BETWEEN_SMALL_ONES = """
import torch
from flaggeo.numerics.memory import give_back_freed, keep_no_large_blocks

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

def block(megabytes):
    return torch.ones(megabytes * 2**18)

largest = block(30)
del largest  # glibc holds blocks of up to this size from now on
before = resident()
{first}
blocks = [block(16) for _ in range(16)]
small = [bytearray(2**16) for _ in range(16)]
del blocks
{then}
print(resident() - before)
"""


def left_over(first="", then=""):
    """Megabytes that a process keeps of 256 that it freed below small blocks, which it holds."""
    code = _FREED_BETWEEN_SMALL_ONES.format(first=first, then=then)
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_what_was_freed_is_kept_by_itself_and_given_back_where_that_is_asked_for():
    assert left_over() > 200
    assert left_over(then="give_back_freed()") < 30
    assert left_over(first="keep_no_large_blocks()") < 30
