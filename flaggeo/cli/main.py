"""The commands. Everything heavy is imported inside them, so that ``flaggeo --help`` answers at once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .compare import compare
from .prove import prove
from .report import figure, report
from .terminal import (
    Device,
    Draws,
    FoldNorms,
    Format,
    Heads,
    Layers,
    OutputFormat,
    Quiet,
    Rank,
    Roles,
    Seed,
    Verbose,
    errors_reported,
    expanded,
    parse_layers,
    parse_roles,
    progress_bar,
    require_settings,
    scratch_beside,
    standard_output,
    usage_errors,
)
from .trace import trace

if TYPE_CHECKING:
    import pandas as pd

    from ..network import Network
    from ..results.analysis import Analysis

app = typer.Typer(
    name="flaggeo",
    help="Read a network's weights from disk and measure how their subspaces are aligned.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(compare)
app.command()(trace)
app.command()(report)
app.command()(figure)
app.command()(prove)

_Source = Annotated[
    Path,
    typer.Argument(
        metavar="PATH", help="A .safetensors or .gguf file, a model.safetensors.index.json, or a Hugging Face folder."
    ),
]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("flaggeo"))
        raise typer.Exit


@app.command()
def inspect(path: _Source, output_format: Format = OutputFormat.TABLE, verbose: Verbose = False) -> None:
    """What each tensor of a checkpoint means, and which are not used and why. Reads headers only."""
    with errors_reported(verbose):
        network = _load(path, quiet=False)
        if output_format is OutputFormat.JSON:
            typer.echo(json.dumps(_network_record(network), indent=2))
        else:
            _print_network(network, every_tensor=verbose)


@app.command()
def analyze(
    path: _Source,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for the page and the tables.  [default: NAME-alignment]"
        ),
    ] = None,
    rank: Rank = 16,
    roles: Roles = None,
    layers: Layers = None,
    heads: Heads = False,
    fold_norms: FoldNorms = False,
    draws: Draws = 0,
    seed: Seed = 0,
    device: Device = "cpu",
    output_format: Format = OutputFormat.TABLE,
    quiet: Quiet = False,
    verbose: Verbose = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in DIR.")] = False,
) -> None:
    """Measure how a checkpoint's subspaces are aligned; write a page and tables."""
    folder = output or Path(f"{path.stem or path.resolve().name}-alignment")
    with errors_reported(verbose):
        chosen_roles = parse_roles(roles)
        layer_ranges = None if layers is None else parse_layers(layers)
        with usage_errors():
            from ..results.storage import require_replaceable

            require_replaceable(folder, overwrite=overwrite)
            require_settings(rank, draws, device)
        network = _load(path, quiet)
        with usage_errors():
            from ..analysis import select_weights

            chosen_layers = None if layer_ranges is None else expanded(layer_ranges, network.layers[-1])
            select_weights(network, roles=chosen_roles, layers=chosen_layers, heads=heads)
        options = {
            "rank": rank,
            "roles": chosen_roles,
            "layers": chosen_layers,
            "heads": heads,
            "fold_norms": fold_norms,
            "draws": draws,
            "seed": seed,
            "device": device,
        }
        analysis = _analyze(network, folder, options, overwrite, quiet)
        if output_format is OutputFormat.JSON:
            typer.echo(json.dumps(_analysis_record(analysis, folder), indent=2))
        elif not quiet:
            _print_analysis(analysis, folder, verbose)


def _load(path: Path, quiet: bool) -> "Network":
    from rich.console import Console

    console = Console(stderr=True, quiet=quiet)
    with console.status(f"reading the headers of {path.name}"):
        from ..analysis import load

        network = load(path)
    for remark in network.remarks:
        console.print(f"note: {remark}", markup=False, highlight=False)
    return network


def _analyze(
    network: "Network",
    folder: Path,
    options: dict[str, Any],
    overwrite: bool,
    quiet: bool,
) -> "Analysis":
    """Run with these options, save, and clean up; an interrupted run leaves what it has done for the next one."""
    from ..analysis import analyze as run
    from ..page import render_report

    with progress_bar(quiet) as show, scratch_beside(folder) as scratch:
        analysis = run(network, **options, progress=show, scratch=scratch)
        analysis.save(folder, report=render_report(analysis), overwrite=overwrite)
    return analysis


def _network_record(network: "Network") -> dict[str, object]:
    headers = network.checkpoint.headers
    return {
        "checkpoint": network.checkpoint.location,
        "family": network.family,
        "remarks": list(network.remarks),
        "weights": [
            {"name": weight.name, "role": weight.role, "layer": weight.layer, "head": weight.head}
            | {"source": weight.source.name, "target": weight.target.name}
            | {"shape": [weight.target.dim, weight.source.dim]}
            | {"tensor": weight.tensor, "dtype": headers[weight.tensor].dtype}
            for weight in network.weights
        ],
        "spaces": [
            {"name": space.name, "dim": space.dim, "depth": space.depth}
            | {"symmetry": space.symmetry.value, "assumed": space.assumed}
            for space in network.spaces.values()
        ],
        "skipped": [
            {"tensor": item.tensor, "shape": list(item.shape), "reason": item.reason} for item in network.skipped
        ],
    }


def _print_network(network: "Network", every_tensor: bool) -> None:
    from rich.table import Table

    from ..network import ROLES

    console = standard_output()
    console.print(f"{network.checkpoint.location}: {len(network.layers)} layers of the {network.family} family\n")
    table = Table("role", "tensors", "heads", "shape", "dtype", "reads", "writes", box=None, header_style="bold")
    for role in ROLES:
        whole = [weight for weight in network.weights if weight.role == role and weight.head is None]
        if whole:
            heads = sum(weight.role == role and weight.head is not None for weight in network.weights)
            table.add_row(
                role,
                str(len(whole)),
                str(heads // len(whole)) if heads else "–",
                _distinct(f"{weight.target.dim}x{weight.source.dim}" for weight in whole),
                _distinct(network.checkpoint.headers[weight.tensor].dtype for weight in whole),
                _distinct(_any_layer(weight.source.name) for weight in whole),
                _distinct(_any_layer(weight.target.name) for weight in whole),
            )
    console.print(table)
    console.print("\nspaces")
    spaces = Table("space", "dimension", "free changes of basis", box=None, header_style="bold")
    seen = {
        (_any_layer(space.name), space.dim, space.symmetry.value + " (assumed)" * space.assumed)
        for space in network.spaces.values()
    }
    for name, dim, symmetry in sorted(seen):
        spaces.add_row(name, str(dim), symmetry)
    console.print(spaces)
    console.print("\nnot used")
    unused = Table("tensor", "how many", "reason", box=None, header_style="bold")
    counts: dict[tuple[str, str], int] = {}
    for item in network.skipped:
        key = (item.tensor if every_tensor else _any_layer(item.tensor), item.reason)
        counts[key] = counts.get(key, 0) + 1
    for (tensor, reason), count in counts.items():
        unused.add_row(tensor, str(count), reason)
    console.print(unused if counts else "nothing")


def _distinct(values: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _any_layer(name: str) -> str:
    """The name with every number in it replaced by a star."""
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))


def _analysis_record(analysis: "Analysis", folder: Path) -> dict[str, object]:
    from ..findings import findings

    return {
        "output": str(folder),
        "provenance": dict(analysis.provenance),
        "summary": json.loads(analysis.summary.to_json(orient="records")),
        "findings": [finding.as_dict() for finding in findings(analysis)],
    }


def _print_analysis(analysis: "Analysis", folder: Path, verbose: bool) -> None:
    from ..findings import findings
    from ..graph.alignment_graph import FALSE_DISCOVERY_RATE

    console = standard_output()
    if not analysis.summary.empty:
        console.print(_summary_table(analysis.summary))
        console.print("Unrelated is the exact mean for unrelated (Haar) directions, and effect size is")
        console.print(
            "(|cos| - unrelated) / (1 - unrelated). Significant counts the layer pairs whose q-value is at most"
        )
        console.print(
            f"{FALSE_DISCOVERY_RATE:.0%}. Channels is the number of coordinates that the first vector lives on;"
        )
        console.print("unlike the other numbers, it changes when the stream is rotated.")
        if not analysis.nulls.empty:
            console.print(
                "Norm-matched: random matrices with the same row and column norms. Sign-flip: random signs of"
            )
            console.print(
                "the coordinates. Excess is the effect size over the largest null, and equal norms is |cos| with"
            )
            console.print("all channels scaled to one norm.")
        console.print()
    for finding in findings(analysis):
        console.print(f"- {finding}")
    if verbose:
        console.print(f"\nlargest residual of a singular triplet: {analysis.weights['residual'].max():.1e}")
        for item in analysis.skipped.itertuples():
            console.print(f"not used: {item.tensor}: {item.reason}")
    console.print(f"\n{len(analysis.skipped)} tensors were not used; flaggeo inspect says why")
    console.print(f"tables: {folder}\npage:   {folder / 'report.html'}", soft_wrap=True)


def _summary_table(summary: "pd.DataFrame") -> object:
    from rich.table import Table

    numbers = {"|cos| 1st": "abs_cos_1", "unrelated": "null_mean", "effect size": "adjusted"}
    if summary["excess"].notna().any():
        numbers |= {"norm-matched": "margin_matched", "sign-flip": "sign_flip"}
        numbers |= {"excess": "excess", "equal norms": "equalised"}
    numbers |= {"|cos| 2nd": "abs_cos_2", "overlap": "overlap", "unrelated overlap": "overlap_null_mean"}
    table = Table(
        "role",
        "side",
        *numbers,
        "significant layer pairs",
        "channels",
        box=None,
        header_style="bold",
        title="continuity across layers, mean over the layer pairs",
        title_justify="left",
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for row in summary[summary["shared_space"]].to_dict("records"):
        table.add_row(
            str(row["role"]),
            str(row["side"]),
            *(f"{row[column]:.3f}" for column in numbers.values()),
            f"{row['beyond_chance']} of {row['layer_pairs']}",
            f"{row['channels']:.0f} of {row['dim']}",
        )
    return table


def main() -> None:
    """Entry point of the ``flaggeo`` command."""
    app()
