"""`flaggeo report` and `flaggeo figure`: the page and its charts once more, from saved results alone."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .terminal import UNREADABLE, Quiet, Verbose, errors_reported, fail, usage_errors

if TYPE_CHECKING:
    from ..page.figure import Format

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a saved result.")]


def report(folder: _Folder, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Make the page of a saved analysis, comparison or trace again; no checkpoint is read."""
    with errors_reported(verbose):
        from ..results.storage import replace_file

        load, render, page = _kind_of(folder)
        html = render(_loaded(load, folder, verbose))
        replace_file(folder / page, html.encode())
        if not quiet:
            typer.echo(folder / page)


def figure(
    folder: _Folder,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="continuity, graph, matrix, heads, interfaces or interface-curves.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Ends in .svg, .png or .pdf.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="CONTROL=VALUE", help="Set a control of the chart, as threshold=0.3."),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Draw one chart of a saved analysis into a file; no checkpoint is read."""
    with errors_reported(verbose):
        from ..page.figure import FIGURES, drawn, figure_spec

        with usage_errors():
            file_format = _format(output)
            if name not in FIGURES:
                raise ValueError(f"expected a figure among {', '.join(FIGURES)}; found {name!r}")
            _require_free(output, overwrite=overwrite)
            chosen = dict(map(_setting, settings or []))
        from ..results.analysis import Analysis
        from ..results.storage import replace_file

        analysis = _loaded(Analysis.load, folder, verbose)
        with usage_errors():
            spec = figure_spec(analysis, name, chosen)
        replace_file(output, drawn(spec, file_format))
        if not quiet:
            typer.echo(output)


def _kind_of(folder: Path) -> tuple[Callable[[Path], Any], Callable[[Any], str], str]:
    """How a folder's result is loaded and rendered, and what its page is called; an analysis if it has none."""
    from ..comparison import Comparison
    from ..page import render_comparison, render_report, render_trace
    from ..results.analysis import Analysis
    from ..results.storage import COMPARISON_FILE, COMPARISON_REPORT_FILE, REPORT_FILE, TRACE_FILE, TRACE_REPORT_FILE
    from ..tracing import Trace

    if (folder / COMPARISON_FILE).is_file():
        return Comparison.load, render_comparison, COMPARISON_REPORT_FILE
    if (folder / TRACE_FILE).is_file():
        return Trace.load, render_trace, TRACE_REPORT_FILE
    return Analysis.load, render_report, REPORT_FILE


def _loaded(load: Callable[[Path], Any], folder: Path, verbose: bool) -> Any:
    try:
        return load(folder)
    except FileNotFoundError as error:
        fail(error, UNREADABLE, verbose)
    except Exception as error:  # whatever the libraries of the formats raise about a damaged file
        fail(ValueError(f"{folder}: cannot read what is saved here: {error}"), UNREADABLE, verbose)


def _format(output: Path) -> "Format":
    from ..page.figure import FORMATS

    for known in FORMATS:
        if output.suffix.lower() == f".{known}":
            return known
    raise ValueError(
        f"--output: expected a file that ends in {', '.join(f'.{known}' for known in FORMATS)}; found {output.name!r}"
    )


def _require_free(output: Path, *, overwrite: bool) -> None:
    if output.is_dir():
        raise FileExistsError(f"{output}: expected a file, found a folder")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output}: expected a new file, found an existing one: choose another or overwrite it")


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"--set: expected CONTROL=VALUE as in threshold=0.3; found {text!r}")
    return name, value
