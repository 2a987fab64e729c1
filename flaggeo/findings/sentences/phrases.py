"""Phrases that several sentences have."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..words import END, degrees, listed, with_spread

#: Numbers and names by what they are, of a role, a layer or a subspace.
Row = Mapping[str, Any]

#: Layers, of a role or of a change, that are named one by one.
NAMED_LAYERS = 8
_NAMED_HEADS = 6


def moved_most(numbers: Row) -> str:
    """Which subspaces moved most, and how far."""
    return f"The {END[numbers['side']]} subspaces of {numbers['role']} moved most, by {degrees(numbers['rms_angle'])}"


def by_role(roles: Sequence[Row], number: str) -> str:
    """The numbers of the roles, which a single role needs no name for."""
    return listed([f"{row[number]:.2f} for {row['role']}" if len(roles) > 1 else f"{row[number]:.2f}" for row in roles])


def share_of(share: float) -> str:
    """A share of what a noun phrase with its article names."""
    if 0 < share < 0.01:
        return "under 1% of"
    if 0.99 < share < 1:
        return "over 99% of"
    return {0.0: "none of", 1.0: "all"}.get(share, f"{share:.0%} of")


def significant_pairs(roles: Sequence[Row]) -> str:
    """In how many layer pairs of each role."""
    units = [" layer pairs", *[""] * (len(roles) - 1)]
    return listed(
        [
            f"{row['significant']} of {row['layer_pairs']}{unit} for {row['role']}"
            for row, unit in zip(roles, units, strict=True)
        ]
    )


def listed_numbers(layers: Sequence[int]) -> str:
    """Numbers of layers, one by one."""
    return listed([str(layer) for layer in layers])


def matrices(number: int) -> str:
    """So many matrices."""
    return "1 matrix" if number == 1 else f"{number} matrices"


def first_few(names: Sequence[str]) -> str:
    """Names of heads, and how many more there are."""
    more = len(names) - _NAMED_HEADS
    return listed([*names[:_NAMED_HEADS], f"{more} more"] if more > 1 else names)


def of_random_graphs(row: Row, form: str = ".2f", nothing: str = "0") -> str:
    """What random graphs give, with its spread; where that is nothing in all of them, in a word."""
    if row["random"] == row["random_sd"] == 0:
        return nothing
    return with_spread(row["random"], row["random_sd"], form)


def places(where: Sequence[Row]) -> str:
    """Roles and the layers that they are from: q of layers 3 to 5."""
    return listed(
        [f"{row['role']} of {layers_named(row['layers'])}" if row["layers"] else row["role"] for row in where]
    )


def layers_named(layers: Sequence[int]) -> str:
    """Layers one by one, as a range, or their number and the ends."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    if len(layers) > NAMED_LAYERS:
        return f"{len(layers)} layers from {layers[0]} to {layers[-1]}"
    return f"layers {listed_numbers(layers)}"


def ranges(layers: Sequence[int]) -> str:
    """Numbers as the command line takes them: 0, 2-5."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
