"""All numbers of all interfaces of a network, one layer at a time, each beside its null."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ...network import Weight
from ...numerics.threads import workers
from ..chance.seeds import seeded_generator
from ..observable import Observable
from ..schema import Column, Schema
from ..table import measured
from . import leading_directions as leading
from .balance import DIAGONAL_IMBALANCE, IMBALANCE, KEMPF_NESS_GAP, neuron_balanced
from .by_rank import interface_curve
from .commutator import GRAM_COMMUTATOR, GRAM_COSINE, RHO
from .composable import Composable, interfaces_of
from .gate import GATE_COMMUTATOR
from .interface import Interface, interface_pair
from .ranks import FIRST_RANK, POLYSTABILITY_DEFECT, PRODUCT_RANK, SECOND_RANK, UNREAD_DIMENSION
from .stacked_ratio import STACKED_RATIO

#: What is measured of two whole weights that compose, beside `LEADING_OBSERVABLES`. To add an observable, list it here.
INTERFACE_OBSERVABLES: tuple[Observable[Interface], ...] = (
    FIRST_RANK,
    SECOND_RANK,
    PRODUCT_RANK,
    UNREAD_DIMENSION,
    POLYSTABILITY_DEFECT,
    KEMPF_NESS_GAP,
    IMBALANCE,
    DIAGONAL_IMBALANCE,
    STACKED_RATIO,
    GRAM_COMMUTATOR,
    RHO,
    GRAM_COSINE,
    GATE_COMMUTATOR,
)


def interface_schema() -> Schema:
    """Columns of `interface_table`."""
    return Schema(
        "One row for each pair of weights of which one reads what the other writes, inside an MLP or a head; a second "
        "row where single units may be scaled, measured after balancing them",
        (
            Column("name", "str", "name: `layers.3.up-down`, `layers.3.heads.5.q-k`, `layers.3.groups.1.v-o`"),
            Column(
                "kind",
                "str",
                "up-down, gate-down, q-k, v-o; q-k-group and v-o-group for all query heads that share keys and values",
            ),
            Column("layer", "Int64", "layer"),
            Column("head", "Int64", "query head, or key-value head of a group; missing in an MLP"),
            Column("space", "str", "space between the two weights"),
            Column("dim", "Int64", "its dimension"),
            Column("symmetry", "str", "changes of basis of the space that leave the network's function unchanged"),
            Column(
                "gauge_fixed", "bool", "whether each unit was first given incoming and outgoing weights of one norm"
            ),
            Column(
                "basis_independent",
                "bool",
                "whether no change of basis that leaves the network's function unchanged alters these numbers; the "
                "ranks are always basis-independent",
            ),
            Column("rank", "Int64", "leading directions compared"),
            Column("draws", "Int64", "random orientations behind the nulls without a closed form"),
            *(column for observable in INTERFACE_OBSERVABLES for column in observable.columns),
            *(column for observable in leading.LEADING_OBSERVABLES for column in observable.columns),
        ),
    )


def interface_rows(
    weights: Iterable[Weight],
    matrices: Mapping[str, Tensor],
    *,
    rank: int,
    draws: int,
    seed: int,
    folded: bool = False,
) -> list[dict[str, Any]]:
    """Measure every interface that these weights make up, usually those of one layer.

    Parameters
    ----------
    weights : iterable of Weight
        With their heads.
    matrices : mapping of str to Tensor
        Matrix of each, shape=[target.dim, source.dim], by name of the weight. Any floating dtype, on one device.
    rank : int
        Leading directions compared, capped at the smaller rank of the two weights.
    draws : int
        Random orientations for the nulls without a closed form, at least 0. Without any these nulls are NaN.
    seed : int
        Seed of the draws.
    folded : bool, optional
        Whether the norms beside the weights are folded into the matrices.

    Returns
    -------
    rows : list of dict
        For `interface_table` and `interfaces_by_rank`. Where the network allows scalings of single hidden units, a
        second row has ``gauge_fixed`` and is measured on the weights after `neuron_balanced`.

    Raises
    ------
    ValueError
        If the rank is below 1.

    Notes
    -----
    Numbers are float64, where the device has it, and the draws float32.

    References
    ----------
    docs/measurements.md, "Interfaces".
    """
    tasks = []
    for member in interfaces_of(weights):
        tasks += [(member, fixed) for fixed in (False, True) if member.has_scalable_units or not fixed]
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
    order = {(member.name, fixed): position for position, (member, fixed) in enumerate(tasks)}
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
        The columns are those of `interface_schema`. Units of high norm in both weights overlap by the sign-flip mean
        of the overlap, and after balancing a unit of high norm in one weight has it in the other as well.
    """
    return interface_schema().frame(rows)


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
    drawn = _drawn_moments(pair, draws, f"{seed} {members[0].name} {fixed}")
    columns = measured(INTERFACE_OBSERVABLES, pair) | measured(leading.LEADING_OBSERVABLES, pair.leading, drawn)
    curve, kept = interface_curve(pair), pair.leading.kept.tolist()
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
            "basis_independent": member.is_basis_independent(folded=folded, balanced=fixed),
            "rank": kept[place],
            "draws": draws,
            "curve": {"k": list(range(1, kept[place] + 1))}
            | {name: values[: kept[place], place].tolist() for name, values in curve.items()},
        }
        | {name: values[place].item() for name, values in columns.items()}
        for place, member in enumerate(members)
    ]


def _drawn_moments(pair: Interface, draws: int, stream: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and spread over signed permutations of the second weight's hidden units, of observables without a law."""
    if draws == 0:
        return {}
    device = pair.first.columns.device

    def orientation(index: int) -> tuple[Tensor, Tensor]:
        generator = seeded_generator(index, stream, device)
        order = torch.randperm(pair.dim, generator=generator, device=device)
        return order, 1 - 2 * torch.randint(0, 2, (pair.dim,), generator=generator, device=device)

    order, signs = (torch.stack(parts) for parts in zip(*map(orientation, range(draws)), strict=True))
    turned = pair.reordered(order, signs)
    found = {one.column: one.measure(turned) for one in leading.LEADING_OBSERVABLES if one.null.law is None}
    unknown = torch.full(pair.batch, torch.nan)
    return {name: (values.mean(dim=0), values.std(dim=0) if draws > 1 else unknown) for name, values in found.items()}
