"""How commands show errors, progress and results, and the exit codes that they end with."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from ..display import printable

if TYPE_CHECKING:
    from rich.console import Console

FAILED, USAGE, UNREADABLE, INCOMPLETE, INTERRUPTED = 1, 2, 3, 4, 130
DIFFERENT = INCOMPLETE  # of a command that cannot be incomplete
#: Every exit code and what it says.
EXIT_CODES = {
    0: "done",
    FAILED: "the run failed, or what `verify` or `prove` checks is not as recorded",
    USAGE: "the command line is wrong",
    UNREADABLE: "a checkpoint or a saved result cannot be read",
    INCOMPLETE: "done, but without some tensors that cannot be read; with `compare --exit-code`: they differ",
    INTERRUPTED: "interrupted",
}


#: What is said while the parts of the program are imported that take seconds.
LOADING = "starting"
#: Seconds for which a command that waits says nothing.
SILENCE = 1.9
# Phases behind which no name of a weight stands.
_WITHOUT_PARTS = ("baselines", "pairs")


@contextmanager
def errors_reported(verbose: bool) -> Iterator[None]:
    """One line on standard error and the exit code that the kind of error has."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        say("interrupted: the same command continues where this one stopped")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:  # the last stop before the user
        fail(error, UNREADABLE if _is_unreadable(error) else FAILED, verbose)


def _is_unreadable(error: Exception) -> bool:
    """Whether it is the fault of what was to be read."""
    from ..checkpoint import CheckpointError

    if isinstance(error, CheckpointError | FileNotFoundError):
        return True
    from ..results.storage import ResultError  # takes seconds to import

    return isinstance(error, ResultError)


@contextmanager
def usage_errors(
    kinds: tuple[type[Exception], ...] = (ValueError, FileExistsError, PermissionError),
) -> Iterator[None]:
    """Report errors of these kinds as what is wrong with the command line; by default those of its options."""
    try:
        yield
    except kinds as error:
        fail(error, USAGE, verbose=False)


@contextmanager
def full_disk_named(output: Path) -> Iterator[None]:
    """Say what lacks room, which the system's own words do not."""
    try:
        yield
    except OSError as error:
        if error.errno != ENOSPC:
            raise
        raise OSError(f"{output}: expected room on its disk, found none left") from error


def fail(error: Exception, code: int, verbose: bool) -> NoReturn:
    """Print one line and exit."""
    if verbose:
        traceback.print_exception(error)
    message = " ".join(str(error).split()) or type(error).__name__
    say(f"flaggeo: {message}")
    raise typer.Exit(code)


def chosen_device(name: str) -> str:
    """A device that torch can compute on; for ``auto`` an accelerator that has float64, else the CPU."""
    import torch

    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        # On a device without float64 leading directions are less exact than the CPU's.
        return "cpu" if found is None or found.type == "mps" else str(found)
    try:
        torch.ones(1, device=name).item()  # the meta device has no numbers
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        # Of a name that it does not know, torch has twenty others to tell.
        why = "" if "Expected one of" in reason else f": {reason}"
        raise ValueError(
            f"--device: expected a device that torch can use here, such as cpu, cuda or mps, or auto; "
            f"found {name!r}{why}"
        ) from None
    return name


def say(line: str) -> None:
    """A line on standard error."""
    typer.echo(printable(line), err=True)


def standard_output() -> "Console":
    """Console for results."""
    # Names from a checkpoint are data, never markup; a pipe gets wide lines, so that no table is cut.
    width = None if sys.stdout.isatty() else 160
    return _console(markup=False, highlight=False, width=width)


def _console(**options: Any) -> "Console":
    """A console that no text sends a command to; what rich itself sends for colours is not text."""
    from rich.console import Console

    class Safe(Console):
        def render_str(self, text: str, **how: Any) -> Any:
            return super().render_str("\n".join(map(printable, text.split("\n"))), **how)

    return Safe(**options)


def number(value: Any, form: str = "") -> str:
    """A number of a table as the terminal shows it; a dash where there is none."""
    from pandas import isna

    return "–" if isna(value) else format(value, form)


@contextmanager
def progress_bar(quiet: bool, first: str = "") -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, if a person is there to see it; it is told a name, how many are done, of how many.

    Elsewhere there are lines, unless all of it is done within `SILENCE`: each phase is named as it begins, and while it
    lasts it is said how far it is. Before the first there is a line about what comes `first`.
    """
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = _console(stderr=True)
    if quiet or not console.is_terminal:
        phase, line, begun = "", first, Event()

        def note(name: str, done: int, total: int) -> None:
            nonlocal phase, line
            before, _, last = name.rpartition(": ")
            current = before if before and last not in _WITHOUT_PARTS else name
            line = "" if done == total == 1 else current if total == 1 else f"{current}: {done} of {total}"
            if current != phase:
                phase = current
                begun.set()

        with _repeated(lambda: line, quiet, begun):
            yield note
        return
    # The time goes on where one piece of work takes long.
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(first or "reading headers", total=None)

        def show(name: str, done: int, total: int) -> None:
            bar.update(task, description=escape(printable(name)), completed=done, total=total)

        yield show


@contextmanager
def waiting(text: str, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Say on standard error what is being done; where no person sees it, in lines if it takes long.

    It is told, as a bar is, what takes long in any case.
    """
    from rich.markup import escape

    console = _console(stderr=True, quiet=quiet)
    status = console.status(escape(text))
    line = text

    def tell(name: str, done: int, total: int) -> None:
        nonlocal line
        line = text if done == total else name
        status.update(escape(text if done == total else printable(name)))

    with status if console.is_terminal else _repeated(lambda: line, quiet):
        yield tell


@contextmanager
def _repeated(text: Callable[[], str], quiet: bool, changed: Event | None = None) -> Iterator[None]:
    """A line on standard error each time that a while has passed, unless there is nothing to say.

    One that says the same as the line before says how long it has taken. After the first while, what has `changed` is
    said at once.
    """
    if quiet:
        yield
        return
    ended, wake = False, changed or Event()

    def repeat() -> None:
        last, said = "", monotonic()
        since, first = said, said + SILENCE
        while True:
            at_once = wake.wait(max(0.0, said + SILENCE - monotonic()))
            wake.clear()
            now = monotonic()
            if ended:
                return
            if now < first:
                continue
            line, said = text(), now
            if line and line == last:
                say(f"{line} ({now - since:.0f} s)")
            elif line:
                since = now if at_once else now - SILENCE
                say(line)
            last = line

    thread = Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended = True
        wake.set()
        thread.join()


@contextmanager
def scratch_beside(folder: Path) -> Iterator[Path]:
    """Where a run keeps what it has done so far, for the same command to go on from if it is interrupted.

    It is removed at the end, and where a checkpoint itself is at fault, what was found is refused or the page alone is
    missing: there is then nothing to resume.
    """
    from ..checkpoint import CheckpointError, HubError
    from ..results.scratch import discard_scratch
    from ..results.storage import PageError

    scratch = folder.resolve().with_name(f"{folder.resolve().name}.partial")

    def discard() -> None:
        for part in (*scratch.glob("*"), scratch):  # a comparison or a trace has a folder for each checkpoint
            discard_scratch(part)

    try:
        yield scratch
    except HubError:  # the same command may have more luck
        raise
    except (CheckpointError, PageError, typer.Exit):
        discard()
        raise
    discard()
