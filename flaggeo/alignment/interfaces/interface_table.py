"""All numbers of all interfaces of a network, one layer at a time, each beside its null."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ...network import Side, Symmetry, Weight
from ...numerics.threads import workers
from ..chance.seeds import seeded_generator
from ..observable import Observable
from .balance import DIAGONAL_IMBALANCE, IMBALANCE, KEMPF_NESS_GAP, neuron_balanced
from .by_rank import interface_curve
from .commutator import GRAM_COMMUTATOR, GRAM_COSINE, RHO
from .composable import Composable, interfaces_of
from .gate import GATE_COMMUTATOR
from .interface import Interface, interface_pair
from .leading_directions import INTERFACE_OVERLAP, STACKED_RATIO, WINDOW_CONTRAST, WINDOW_RHO, adjusted, sign_flip_mean
from .ranks import FIRST_RANK, POLYSTABILITY_DEFECT, PRODUCT_RANK, SECOND_RANK, UNREAD_DIMENSION

INTERFACE_OBSERVABLES: tuple[Observable[Interface], ...] = (
    FIRST_RANK,
    SECOND_RANK,
    PRODUCT_RANK,
    UNREAD_DIMENSION,
    POLYSTABILITY_DEFECT,
    KEMPF_NESS_GAP,
    IMBALANCE,
    DIAGONAL_IMBALANCE,
    INTERFACE_OVERLAP,
    STACKED_RATIO,
    GRAM_COMMUTATOR,
    RHO,
    WINDOW_RHO,
    WINDOW_CONTRAST,
    GRAM_COSINE,
    GATE_COMMUTATOR,
)
_PLACE = ("name", "kind", "layer", "head", "space", "dim", "symmetry", "gauge_fixed", "survives", "rank", "draws")
INTERFACE_COLUMNS = (
    *_PLACE,
    *(f"{observable.column}{part}" for observable in INTERFACE_OBSERVABLES for part in ("", "_null_mean", "_null_sd")),
    "adjusted_overlap",
    "overlap_sign_flip_mean",
    "excess",
)

_COUNTS = {
    observable.column: "Int64"
    for observable in (FIRST_RANK, SECOND_RANK, PRODUCT_RANK, UNREAD_DIMENSION, POLYSTABILITY_DEFECT)
}


def interface_rows(
    weights: Iterable[Weight],
    matrices: Mapping[str, Tensor],
    *,
    rank: int = 16,
    draws: int = 0,
    seed: int = 0,
    folded: bool = False,
) -> list[dict[str, Any]]:
    """Measure every interface that these weights make up, usually those of one layer.

    Parameters
    ----------
    weights : iterable of Weight
        With their heads.
    matrices : mapping of str to Tensor
        Matrix of each, shape=[target.dim, source.dim], by name of the weight. Any floating dtype, on one device.
    rank : int, optional
        Leading directions compared, capped at the smaller rank of the two weights.
    draws : int, optional
        Random orientations for the nulls without a closed form. Without any these nulls are NaN.
    seed : int, optional
        Of the draws.
    folded : bool, optional
        Whether the norms beside the weights are folded into the matrices.

    Returns
    -------
    rows : list of dict
        For `interface_table` and `interface_curve_table`. Where the network allows scalings of single hidden units, a
        second row has ``gauge_fixed`` and is measured on the weights after `neuron_balanced`.

    Raises
    ------
    ValueError
        If the rank is below 1 or the number of draws below 0.

    Notes
    -----
    In float64, where the device has it; the draws in float32.

    References
    ----------
    theory/alignment, sections 2.7, 6 and 10.
    """
    if draws < 0:
        raise ValueError(f"interface_rows needs a number of draws of at least 0; got {draws}.")
    tasks = []
    for member in interfaces_of(weights):
        # A gate may be permuted with the other two weights but not scaled.
        scalable = member.first[0].symmetry(Side.WRITE) is Symmetry.SCALED_PERMUTATION
        tasks += [(member, fixed) for fixed in (False, True) if scalable or not fixed]
    read = {member.name: _working(member.matrices(matrices)) for member, _ in tasks}

    def kind(task: tuple[Composable, bool]) -> tuple[bool, str, tuple[int, ...]]:
        member, fixed = task
        return fixed, str(member.layer), tuple(size for matrix in read[member.name] for size in matrix.shape)

    # The largest first, so that no core waits for it at the end.
    batches = [list(batch) for _, batch in groupby(sorted(tasks, key=kind, reverse=True), key=kind)]

    def measure(batch: list[tuple[Composable, bool]]) -> list[dict[str, Any]]:
        members = [member for member, _ in batch]
        return _batch_rows(members, [read[member.name] for member in members], batch[0][1], rank, draws, seed, folded)

    with workers() as pool:
        rows = [row for of_batch in pool.map(measure, batches) for row in of_batch]
    order = {(member.name, fixed): place for place, (member, fixed) in enumerate(tasks)}
    return sorted(rows, key=lambda row: order[row["name"], row["gauge_fixed"]])


def interface_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of all layers as one table.

    Parameters
    ----------
    rows : iterable of mapping
        From `interface_rows`.

    Returns
    -------
    table : pandas.DataFrame
        The columns are `INTERFACE_COLUMNS`: every number beside the mean and the spread of its null. ``symmetry``
        says which changes of basis of the space leave the network alone, ``survives`` whether all but the ranks
        keep their values under them (the ranks always do, see `Composable.survives`), ``rank`` how many directions
        were compared, ``draws`` how many orientations stand behind the nulls without a closed form.
        ``adjusted_overlap`` is :math:`(S - E) / (1 - E)`, and ``excess`` the same with the larger of E and
        ``overlap_sign_flip_mean``, the exact mean under random signs of the hidden units: units that are loud on both
        sides overlap by it, and after balancing a loud unit is loud on both.
    """
    table = pd.DataFrame(list(rows), columns=list(INTERFACE_COLUMNS))
    numbers = dict.fromkeys(INTERFACE_COLUMNS[len(_PLACE) :], "float64") | _COUNTS
    place = dict.fromkeys(("layer", "head", "dim", "rank", "draws"), "Int64") | {
        "gauge_fixed": "bool",
        "survives": "bool",
    }
    return table.astype(place | numbers)


def balanced(interfaces: pd.DataFrame) -> pd.DataFrame:
    """Rows of interfaces; of units that may be scaled those after balancing, which no scale changes."""
    fixed = interfaces["gauge_fixed"]
    return interfaces[fixed | ~interfaces["name"].isin(interfaces.loc[fixed, "name"])]


def _working(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """In float64, which Metal does not have."""
    dtype = torch.float32 if pair[0].device.type == "mps" else torch.float64
    return pair[0].to(dtype), pair[1].to(dtype)


def _batch_rows(
    members: list[Composable],
    pairs: list[tuple[Tensor, Tensor]],
    fixed: bool,
    rank: int,
    draws: int,
    seed: int,
    folded: bool,
) -> list[dict[str, Any]]:
    """Rows of interfaces of equal shapes. A second weight that all share is decomposed once."""
    shared = len({member.second for member in members}) == 1
    first = torch.stack([pair[0] for pair in pairs])
    second = pairs[0][1] if shared else torch.stack([pair[1] for pair in pairs])
    if fixed:
        first, second = neuron_balanced(first, second)
    pair = interface_pair(first, second, rank)
    columns = _numbers(pair, draws, f"{seed} {members[0].name} {fixed}")
    curve = interface_curve(pair)
    return [
        {
            "name": member.name,
            "kind": member.kind,
            "layer": member.layer,
            "head": member.head,
            "space": member.space.name,
            "dim": member.space.dim,
            "symmetry": member.space.symmetry.value,
            "gauge_fixed": fixed,
            "survives": member.survives(folded=folded, balanced=fixed),
            "rank": int(pair.kept[place]),
            "draws": draws,
            "curve": {name: values[: pair.kept[place], place].tolist() for name, values in curve.items()},
        }
        | {name: values[place].item() for name, values in columns.items()}
        for place, member in enumerate(members)
    ]


def _numbers(pair: Interface, draws: int, stream: str) -> dict[str, Tensor]:
    """Every number and the moments of its null, by column, shape=[batch]."""
    drawn = [observable for observable in INTERFACE_OBSERVABLES if observable.null_moments is None]
    moments = dict(zip((one.column for one in drawn), _drawn_moments(pair, drawn, draws, stream), strict=True))
    found: dict[str, Tensor] = {}
    for observable in INTERFACE_OBSERVABLES:
        name = observable.column
        mean, spread = observable.null_moments(pair) if observable.null_moments else moments[name]
        found |= {name: observable.measure(pair), f"{name}_null_mean": mean, f"{name}_null_sd": spread}
    overlap, null_mean, flipped = found["overlap"], found["overlap_null_mean"], sign_flip_mean(pair)
    found["adjusted_overlap"], found["overlap_sign_flip_mean"] = adjusted(overlap, null_mean), flipped
    found["excess"] = adjusted(overlap, torch.maximum(null_mean, flipped))
    return found


def _drawn_moments(
    pair: Interface, observables: list[Observable[Interface]], draws: int, stream: str
) -> list[tuple[Tensor, Tensor]]:
    """Mean and spread of each over signed permutations of the second weight's hidden units."""
    unknown = pair.first.gram_norm.new_full(pair.kept.shape, torch.nan)
    if draws == 0:
        return [(unknown, unknown) for _ in observables]
    device = unknown.device

    def orientation(index: int) -> tuple[Tensor, Tensor]:
        generator = seeded_generator(index, stream, device)
        order = torch.randperm(pair.dim, generator=generator, device=device)
        return order, 1 - 2 * torch.randint(0, 2, (pair.dim,), generator=generator, device=device)

    order, signs = (torch.stack(parts) for parts in zip(*map(orientation, range(draws)), strict=True))
    turned = pair.reordered(order, signs)
    found = [observable.measure(turned) for observable in observables]
    return [(values.mean(dim=0), values.std(dim=0) if draws > 1 else unknown) for values in found]
