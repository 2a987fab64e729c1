"""`flaggeo reproduce`: run the papers' experiments, and say which of their claims hold."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..claims.experiment import Size
from .options import Device, Format, OutputFormat, Quiet, Verbose
from .terminal import LOADING, chosen_device, errors_reported, full_disk_named, standard_output, usage_errors, waiting

if TYPE_CHECKING:
    from rich.console import Console

    from ..claims import Judgement, Reproduction

_ALL = "all"
# Beside the record: the page, and the folder of one figure for each claim.
_PAGE, _FIGURES = "reproduction.html", "figures"


def reproduce(
    claims: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CLAIM...|all]", help="Names of claims; without any, all those of the papers."),
    ] = None,
    size: Annotated[
        Size, typer.Option(help="Networks 64 wide with 8 layers, or those of arXiv:2605.04971, for a GPU.")
    ] = Size.LAPTOP,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with the four files of MNIST, for the claims on it.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Write to this folder, and go on with what is there.")
    ] = Path("reproduction"),
    device: Device = "cpu",
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Run the experiments in so many processes.")
    ] = 2,
    output_format: Format = OutputFormat.TABLE,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the networks of the papers' experiments, and hold their claims against what comes out.

    An interrupted run goes on where it stopped. No verdict is recorded: each follows from the numbers.
    """
    with errors_reported(verbose), waiting(LOADING, quiet) as tell:
        from ..claims import claims as known
        from ..claims import reproduce as run
        from ..results.lock import alone_in

        names = None if claims in (None, [], [_ALL]) else claims
        with usage_errors():
            known(names)
            device = chosen_device(device)
            _require_folder(output)
            _require_mnist(data)
        with full_disk_named(output), alone_in(output):

            def progress(name: str, done: int, total: int) -> None:
                tell(f"{name}: {done} of {total}", 0, 1)

            found = run(output, names, size=size, data=data, device=device, jobs=jobs, progress=progress)
            tell("page and figures", 0, 1)
            _write_page(output, found)
    if output_format is OutputFormat.JSON:
        typer.echo(found.to_json(), nl=False)
    elif not quiet:
        _show(standard_output(), found, output, details=names is not None)


def _write_page(folder: Path, found: "Reproduction") -> None:
    from ..page import claim_figures, render_reproduction
    from ..results.storage import replace_file

    for name, drawn in claim_figures(found).items():
        replace_file(folder / _FIGURES / f"{name}.svg", drawn)
    replace_file(folder / _PAGE, render_reproduction(found).encode())


def _require_folder(folder: Path) -> None:
    """Raise unless a folder is new, or holds nothing but a reproduction."""
    from ..claims.reproduction import PARTS, RECORD

    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder}: expected a folder, found a file")
    others = sorted({path.name for path in folder.iterdir()} - {PARTS, RECORD, _PAGE, _FIGURES})
    if others:
        raise FileExistsError(
            f"{folder}: expected a new folder or that of a reproduction, found {others[0]!r} in it: choose another"
        )


def _require_mnist(folder: Path | None) -> None:
    """Raise unless the files of a data set can be read, before anything is written."""
    from ..training.idx import read_mnist

    if folder is not None:
        read_mnist(folder)


def _show(console: "Console", found: "Reproduction", folder: Path, *, details: bool) -> None:
    from rich.table import Table

    table = Table("claim", "verdict", "cases that hold", "source", box=None, header_style="bold")
    for judgement in found.judgements:
        cases, against = len(judgement.outcomes), len(judgement.against)
        holding = f"{cases - against} of {cases}" if cases else "–"
        table.add_row(judgement.claim.name, str(judgement.verdict), holding, judgement.claim.source)
    console.print(table)
    for judgement in found.judgements if details else ():
        _show_cases(console, judgement)
    console.print(f"\npage: {folder / _PAGE}", soft_wrap=True)


def _show_cases(console: "Console", judgement: "Judgement") -> None:
    from rich.table import Table

    console.print(f"\n{judgement.claim.name}: {judgement.claim.sentence}")
    if not judgement.outcomes:
        console.print(judgement.claim.untested)
        return
    table = Table("setting", "number", "expected", "measured", "holds", "paper", box=None, header_style="bold")
    for outcome in judgement.outcomes:
        case = outcome.case
        table.add_row(
            case.setting,
            case.quantity,
            case.expected,
            outcome.measured,
            "yes" if outcome.holds else "no",
            case.paper,
        )
    console.print(table)
