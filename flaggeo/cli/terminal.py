"""What the commands share: options, exit codes, how errors and progress are shown."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

#: Exit codes beside 0: the run failed, the command line is wrong, the checkpoint is unreadable or unsupported.
FAILED, USAGE, UNREADABLE = 1, 2, 3


class OutputFormat(StrEnum):
    """How results are printed on standard output."""

    TABLE = "table"
    JSON = "json"


Rank = Annotated[int, typer.Option("--rank", "-k", help="Singular directions kept of each weight.")]
SavedRank = Annotated[
    int | None,
    typer.Option("--rank", "-k", help="Singular directions kept of each weight.  [default: a saved one's, or 16]"),
]
Roles = Annotated[str | None, typer.Option(help="Only these, as in q,k,gate.  [default: all]")]
Layers = Annotated[str | None, typer.Option(help="Only these, as in 0-5,8.  [default: all]")]
Heads = Annotated[bool, typer.Option("--heads", help="Also take every attention head as a weight.")]
FoldNorms = Annotated[
    bool, typer.Option("--fold-norms", help="Measure the weights with the norms beside them folded in.")
]
Draws = Annotated[
    int,
    typer.Option(
        help="Also compare with random matrices of the same row and column norms, this many times each weight; "
        "20 about double the time."
    ),
]
Seed = Annotated[int, typer.Option(help="Of the draws.")]
Device = Annotated[str, typer.Option(help="Where the linear algebra runs: cpu, cuda, cuda:1 ...")]
Format = Annotated[OutputFormat, typer.Option("--format", help="What standard output gets.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show where an error came from.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors, and JSON if asked for.")]


@contextmanager
def errors_reported(verbose: bool) -> Iterator[None]:
    """One line on standard error and the exit code that the kind of error has."""
    from ..checkpoint import CheckpointError

    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except CheckpointError as error:
        fail(error, UNREADABLE, verbose)
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command continues where this one stopped", err=True)
        raise typer.Exit(130) from None
    except Exception as error:  # the last stop before the user
        fail(error, FAILED, verbose)


@contextmanager
def usage_errors(
    kinds: tuple[type[Exception], ...] = (ValueError, FileExistsError, PermissionError),
) -> Iterator[None]:
    """Report errors of these kinds as what is wrong with the command line; by default those of its options."""
    try:
        yield
    except kinds as error:
        fail(error, USAGE, verbose=False)


def fail(error: Exception, code: int, verbose: bool) -> NoReturn:
    """Print one line and exit."""
    if verbose:
        traceback.print_exception(error)
    message = " ".join(str(error).split()) or type(error).__name__
    typer.echo(f"flaggeo: {message}", err=True)
    raise typer.Exit(code)


def parse_roles(text: str | None) -> list[str] | None:
    """Roles from an option such as q,k,gate."""
    return None if text is None else [role.strip() for role in text.split(",")]


def parse_layers(text: str) -> list[range]:
    """Ranges of layers from an option such as 0-5,8."""
    ranges = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            fail(ValueError(f"--layers: expected numbers and ranges as in 0-5,8; found {part!r}"), USAGE, False)
        ranges.append(range(int(first), int(last or first) + 1))
    return ranges


def expanded(ranges: list[range], last_layer: int) -> list[int]:
    """Layers of the ranges, all of which have to be there."""
    beyond = next((part for part in ranges if part[-1] > last_layer), None)
    if beyond is not None:
        raise ValueError(f"--layers: expected layers from 0 to {last_layer}; found {beyond[-1]}")
    return sorted({layer for part in ranges for layer in part})


def require_settings(rank: int | None, draws: int, device: str) -> None:
    """Raise unless the numbers make sense and torch can compute on the device."""
    if rank is not None and rank < 1:
        raise ValueError(f"--rank: expected at least 1; found {rank}")
    if draws < 0:
        raise ValueError(f"--draws: expected at least 0; found {draws}")
    require_device(device)


def require_device(name: str) -> None:
    """Raise unless torch can compute there."""
    import torch

    try:
        torch.ones(1, device=name).item()  # the meta device has no numbers
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device: expected a device that torch can use here; found {name!r}: {reason}") from None


def standard_output() -> "Console":
    """Console for results."""
    from rich.console import Console

    # Names from a checkpoint are data, never markup; a pipe gets wide lines, so that no table is cut.
    width = None if sys.stdout.isatty() else 160
    return Console(markup=False, highlight=False, width=width)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, if a person is there to see it; it is told a name, how many are done, of how many."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("weights", total=None)

        def show(name: str, done: int, total: int) -> None:
            bar.update(task, description=escape(name), completed=done, total=total)

        yield show


@contextmanager
def scratch_beside(folder: Path) -> Iterator[Path]:
    """Where a run keeps what it has done so far, for the same command to go on from if it is interrupted.

    It is removed at the end, and where a checkpoint itself is at fault, since there is then nothing to resume.
    """
    from ..checkpoint import CheckpointError
    from ..results.scratch import discard_scratch

    scratch = folder.resolve().with_name(f"{folder.resolve().name}.partial")

    def discard() -> None:
        for part in (*scratch.glob("*"), scratch):  # a comparison or a trace has a folder for each checkpoint
            discard_scratch(part)

    try:
        yield scratch
    except CheckpointError:
        discard()
        raise
    discard()
