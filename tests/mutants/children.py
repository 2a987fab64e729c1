"""A child that reads a folder, with a limit on its memory and its time."""

import os
import resource
import signal
import traceback
from dataclasses import dataclass

from flaggeo.checkpoint import CheckpointError
from flaggeo.network import UnknownArchitectureError
from flaggeo.results.storage import ResultError

SECONDS, MEMORY = 30, 2 << 30
READ, REFUSED = 0, 3


@dataclass(frozen=True)
class End:
    """How a child ended, and the digest of what it read or what it has to say."""

    code: int
    said: str


def attempt(read, folder):
    """The end of a child that is forked from this process and reads the folder."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        code, said = 1, ""
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115, PTH123
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            signal.alarm(SECONDS)
            code, said = READ, read(folder)
        except (CheckpointError, UnknownArchitectureError, ResultError, FileNotFoundError) as error:
            is_clean = len(str(error).splitlines()) == 1 and folder.name in str(error)
            code, said = (REFUSED if is_clean else 1), str(error)
        except BaseException:
            said = traceback.format_exc()
        os.write(into, said[-3000:].encode(errors="replace"))
        os._exit(code)
    os.close(into)
    with os.fdopen(out, "rb") as stream:
        said = stream.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return End(os.waitstatus_to_exitcode(status), said)
