"""The commands, one file each. Everything heavy is imported inside them: ``flaggeo --help`` answers at once."""

import gc
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .analyze import analyze
from .compare import compare
from .figure import figure
from .inspect import inspect
from .prove import prove
from .report import report
from .reproduce import reproduce
from .terminal import EXIT_CODES
from .trace import trace
from .verify import verify

_EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."


class _Commands(TyperGroup):
    """The commands, of which ``analyze`` need not be named where a path or a repository stands in its place."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        first = args[0]
        if first not in self.commands and (Path(first).exists() or "/" in first or "." in first):
            args = ["analyze", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="flaggeo",
    cls=_Commands,
    help="Read a network's weights from disk and measure how their subspaces are aligned: flaggeo PATH.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# In the order in which a person comes to need them.
for command in (analyze, inspect, compare, trace, figure, report, verify, prove, reproduce):
    app.command(epilog=_EPILOG)(command)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("flaggeo"))
        raise typer.Exit


def main() -> None:
    """Entry point of the ``flaggeo`` command."""
    # Nearly all objects of a short run come from imports and stay: to go through them often is a tenth of it.
    gc.set_threshold(20_000, 10, 10)
    # Who ends a job of a cluster sends SIGTERM: what is done so far is kept then too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()
