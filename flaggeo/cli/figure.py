"""`flaggeo figure`: one chart of a saved result as a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Overwrite, QuietPath, Verbose
from .report import Folder
from .terminal import errors_reported, full_disk_named, usage_errors

if TYPE_CHECKING:
    from ..page.figure import Format


def figure(
    folder: Folder,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Of an analysis: continuity, graph, matrix, heads, interfaces or interface-curves; of a comparison: "
            "tensors or drift; of a trace: drift, continuity or weights.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Write to this file, an .svg, .png or .pdf.")
    ],
    controls: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="CONTROL=VALUE", help="Set a control of the chart, for example threshold=0.3."),
    ] = None,
    quiet: QuietPath = False,
    verbose: Verbose = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw one chart of a saved analysis, comparison or trace into a file; no checkpoint is read."""
    with errors_reported(verbose):
        from ..page.figure import drawn, figure_spec, require_figure
        from ..results import kind_in
        from ..results.storage import replace_file

        with usage_errors():
            file_format = _format(output)
            _require_free(output, overwrite=overwrite)
            chosen = dict(map(_setting, controls or []))
        kind = kind_in(folder)
        with usage_errors():
            require_figure(kind, name)
        result = kind.load(folder)
        with usage_errors():
            spec = figure_spec(result, name, chosen)
        with full_disk_named(output):
            replace_file(output, drawn(spec, file_format))
        if not quiet:
            typer.echo(output)


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
        raise FileExistsError(
            f"{output}: expected a new file, found an existing one: choose another, or give --overwrite"
        )


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"--set: expected CONTROL=VALUE as in threshold=0.3; found {text!r}")
    return name, value
