"""`flaggeo inspect`: what the tensors of a checkpoint mean."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..display import printable
from .options import Format, HeadsPerLayer, OutputFormat, Verbose
from .terminal import errors_reported, say, standard_output, waiting

if TYPE_CHECKING:
    from ..network import Network

Source = Annotated[
    str,
    typer.Argument(
        metavar="PATH",
        help="A file of weights (.safetensors, .gguf, .bin, .pt, .pth, .ckpt, .npz, .h5, .onnx), an index of shards, a "
        "folder that holds one or is a torch.distributed checkpoint, or a repository on the Hugging Face Hub: "
        "org/name, org/name@revision or org/name/file.gguf.",
    ),
]


def inspect(
    path: Source,
    heads_per_layer: HeadsPerLayer = None,
    output_format: Format = OutputFormat.TABLE,
    verbose: Verbose = False,
) -> None:
    """Describe each tensor of a checkpoint, and which are not used and why; only headers are read."""
    with errors_reported(verbose):
        network = opened(path, quiet=False, heads_per_layer=heads_per_layer)
        if output_format is OutputFormat.JSON:
            typer.echo(json.dumps(_record(network), indent=2))
        else:
            _print(network, every_tensor=verbose)


def opened(path: str, quiet: bool, heads_per_layer: int | None = None) -> "Network":
    """The network of a checkpoint; its remarks go to standard error.

    Raises
    ------
    CheckpointError
        As `flaggeo.load`; where an adapter or a saved result is in the place of a checkpoint, the message says so.
    """
    # Not by flaggeo.load, which is in a module that needs torch.
    from ..checkpoint import CheckpointError, is_adapter, open_checkpoint
    from ..network import read_network

    folder = Path(path).parent if Path(path).stem == "adapter_model" else Path(path)
    if is_adapter(folder) and not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{path}: expected a checkpoint, found a LoRA adapter of one: flaggeo compare BASE {folder} measures it"
        )
    with waiting(f"reading the headers of {path}", quiet) as tell:
        config = None if heads_per_layer is None else {"num_attention_heads": heads_per_layer}
        try:
            network = read_network(open_checkpoint(path, config), progress=tell)
        except CheckpointError:
            _require_no_other(Path(path))
            raise
    print_remarks(network.remarks, quiet)
    return network


def _require_no_other(folder: Path) -> None:
    """Raise for a folder that another command takes."""
    from ..checkpoint import CheckpointError

    if not folder.is_dir() or (folder / "config.json").is_file():
        return  # none such, which would take seconds to find out from the rooms that know them
    from ..results import kind_in

    with suppress(FileNotFoundError):
        kind = kind_in(folder).KIND
        raise CheckpointError(f"{folder}: expected a checkpoint, found {kind.name} saved by flaggeo") from None


def print_remarks(remarks: Iterable[str], quiet: bool) -> None:
    """What a reader of the numbers should know, on standard error."""
    if not quiet:
        for remark in remarks:
            say(f"note: {remark}")


def _record(network: "Network") -> dict[str, object]:
    from ..network.coverage import coverage

    headers = network.checkpoint.headers
    covered = coverage(network)
    return {
        "checkpoint": network.checkpoint.location,
        "metadata": dict(network.checkpoint.metadata),
        "family": network.family,
        "layers": dict(network.depth),
        "remarks": list(network.remarks),
        "coverage": covered.record() | {"share": covered.share},
        "weights": [
            {"name": weight.name, "role": weight.role, "layer": weight.layer, "head": weight.head}
            | {"expert": weight.expert}
            | {"source": weight.source.name, "target": weight.target.name}
            | {"shape": [weight.target.dim, weight.source.dim]}
            | {"tensor": weight.tensor, "dtype": headers[weight.tensor].dtype}
            for weight in network.weights
        ],
        "spaces": [
            {"name": space.name, "kind": space.kind.value, "dim": space.dim, "depth": space.depth}
            | {"symmetry": space.symmetry.value, "assumed": space.assumed}
            for space in network.spaces.values()
        ],
        "skipped": [
            {"tensor": item.tensor, "shape": list(item.shape), "reason": item.reason}
            | {"is_parameter": item.is_parameter}
            for item in network.skipped
        ],
    }


def _print(network: "Network", every_tensor: bool) -> None:
    from rich.table import Table

    from ..network import CHANGES_OF_BASIS
    from ..network.coverage import coverage
    from ..network.families.lookup import read_as
    from ..network.roles import layers_in_words, role_order

    depth = network.depth  # which goes through all weights
    console = standard_output()
    console.print(f"{network.checkpoint.location}: {layers_in_words(depth)}, {read_as(network.family)}")
    console.print(str(coverage(network)))
    if packing := network.checkpoint.metadata.get("packed weights"):
        console.print(f"packed weights: {packing}", soft_wrap=True)
    console.print()
    table = Table("role", "tensors", "heads", "shape", "dtype", "reads", "writes", box=None, header_style="bold")
    for role in sorted({weight.role for weight in network.weights}, key=role_order):
        whole = [weight for weight in network.weights if weight.role == role and weight.head is None]
        if whole:
            heads = sum(weight.role == role and weight.head is not None for weight in network.weights)
            table.add_row(
                role,
                str(len(whole)),
                str(heads // len(whole)) if heads else "–",
                _distinct(f"{weight.target.dim}x{weight.source.dim}" for weight in whole),
                _distinct(network.checkpoint.headers[weight.tensor].dtype for weight in whole),
                _distinct(_any_layer(weight.source.name, depth) for weight in whole),
                _distinct(_any_layer(weight.target.name, depth) for weight in whole),
            )
    console.print(table)
    console.print("\nspaces")
    spaces = Table("space", "dimension", "free changes of basis", box=None, header_style="bold")
    seen = {
        (
            _any_layer(space.name, depth),
            space.dim,
            CHANGES_OF_BASIS[space.symmetry.value] + " (assumed)" * space.assumed,
        )
        for space in network.spaces.values()
    }
    for name, dim, symmetry in sorted(seen):
        spaces.add_row(name, str(dim), symmetry)
    console.print(spaces)
    console.print("\nnot used")
    unused = Table("tensor", "how many", "reason", box=None, header_style="bold")
    counts: dict[tuple[str, str], int] = {}
    for item in network.skipped:
        key = (printable(item.tensor) if every_tensor else _any_layer(item.tensor), item.reason)
        counts[key] = counts.get(key, 0) + 1
    for (tensor, reason), count in counts.items():
        unused.add_row(tensor, str(count), reason)
    console.print(unused if counts else "nothing")


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _any_layer(name: str, towers: Iterable[str] = ()) -> str:
    """The name with every number in it replaced by a star, but for the number of a stage in the name of its tower."""
    before = next((f"{tower}." for tower in towers if tower and name.startswith(f"{tower}.")), "")
    rest = name.removeprefix(before).split(".")
    return printable(before + ".".join("*" if part.isdecimal() else part for part in rest))
