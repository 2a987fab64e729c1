"""Whether two fine-tunings of one base change it in the same directions, which a sum of both would mix."""

import math
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from manifolds import overlap_moments, projection_overlap

from ..alignment.schema import Column, Schema
from ..checkpoint import Progress
from ..network import Network, Side
from ..numerics.blocks import Rows, with_more_rows
from ..numerics.threads import Room, ahead, thread_count, workers
from ..settings import Settings
from .change import DIFFERENCES_AT_ONCE, stored_change, transposed_tensors
from .delta import leading_directions
from .stored_pairs import stored_pairs

# Rows that are taken to float64 at a time.
_ROWS = 256

INTERFERENCE_SCHEMA = Schema(
    "One row for each matrix that two fine-tunings B and C both changed",
    (
        Column("tensor", "str", "name in A"),
        Column("layer", "Int64", "layer; missing for what stands outside of them"),
        Column("directions_b", "int64", "leading directions of B - A compared: its rank, at most that of the run"),
        Column("directions_c", "int64", "the same of C - A"),
        Column("read_overlap", "float64", "overlap of the leading input directions of B - A with those of C - A"),
        Column("read_null_mean", "float64", "the same of uniform (Haar) subspaces of these dimensions, mean"),
        Column("read_null_sd", "float64", "its standard deviation"),
        Column("read_z", "float64", "standard deviations by which the overlap lies above the mean"),
        Column(
            "read_base_mean",
            "float64",
            "mean of subspaces that lie as much in the leading input subspace of A as the two do, uniform inside and "
            "outside of it",
        ),
        Column("write_overlap", "float64", "overlap of the leading output directions"),
        Column("write_null_mean", "float64", "mean of uniform (Haar) subspaces"),
        Column("write_null_sd", "float64", "its standard deviation"),
        Column("write_z", "float64", "standard deviations by which the overlap lies above the mean"),
        Column("write_base_mean", "float64", "mean of subspaces that lie as much in the leading output subspace of A"),
        Column("cosine", "float64", "of B - A and C - A as vectors of entries: 1 where they are the same up to size"),
        Column("cosine_null_sd", "float64", "its standard deviation for uniform ones, whose mean is 0"),
    ),
)


def interference_table(
    base: Network,
    tuned: tuple[Network, Network],
    tensors: pd.DataFrame,
    settings: Settings,
    device: torch.device,
    progress: Progress | None,
) -> pd.DataFrame:
    r"""Compare the changes of two fine-tunings of one base, matrix by matrix.

    Parameters
    ----------
    base : Network
    tuned : (Network, Network)
        B and C.
    tensors : pandas.DataFrame
        What became of the tensors in either, from `tensor_table`.
    settings : Settings
        Of which the rank is taken.
    device : torch.device
    progress : callable or None

    Returns
    -------
    table : pandas.DataFrame
        With the columns of `INTERFERENCE_SCHEMA`.

    Notes
    -----
    Two changes that each lie in the leading subspace of the base overlap by more than uniform subspaces do, whatever
    they were trained for. Let :math:`P` be the projector onto a leading subspace of dimension k in dimension n, and let
    the projectors :math:`B` and :math:`C` have ranks b and c, of which :math:`\beta = \operatorname{tr} P B` and
    :math:`\gamma = \operatorname{tr} P C` lie inside. Under all rotations that keep P, the mean of B is
    :math:`(\beta / k) P + ((b - \beta) / (n - k)) (1 - P)`, so that :math:`\operatorname{tr} B C` has the mean
    :math:`\beta \gamma / k + (b - \beta)(c - \gamma) / (n - k)`. Of one matrix at a time, both differences are at hand.
    """
    changed = tensors[tensors["change"].isin(["low_rank", "full"])]
    known = [changed[changed["version"] == version].set_index("tensor").to_dict("index") for version in "bc"]
    transposed = transposed_tensors(base)
    partners = [
        {name: other for name, other in stored_pairs(base.checkpoint, one.checkpoint, {}) if name and other}
        for one in tuned
    ]
    common = [str(name) for name in known[0] if name in known[1] and all(name in partner for partner in partners)]

    room = Room(DIFFERENCES_AT_ONCE)

    def row(name: str) -> dict[str, Any]:
        with room.holding(2 * math.prod(base.checkpoint.headers[name].shape)):
            return measured(name)

    def measured(name: str) -> dict[str, Any]:
        changes = [
            stored_change(
                (base.checkpoint, one.checkpoint), (name, partner[name]), device, transposed=name in transposed
            )
            for one, partner in zip(tuned, partners, strict=True)
        ]
        first, second = (change.difference for change in changes)
        found: dict[str, Any] = {"tensor": name, "layer": known[0][name]["layer"], "cosine": _cosine(first, second)}
        found["cosine_null_sd"] = 1 / math.sqrt(math.prod(first.shape))
        frames = [
            leading_directions(change, None, rows[name]["rank"], settings.rank)
            for change, rows in zip(changes, known, strict=True)
        ]
        for side in Side:
            one, other = (frame[side] for frame in frames)
            found |= {"directions_b": one.shape[1], "directions_c": other.shape[1]}
            mean, spread = overlap_moments(len(one), one.shape[1], other.shape[1])
            overlap = min(1.0, float(projection_overlap(one, other)))
            z = (overlap - mean) / spread if spread else math.nan
            numbers = {"overlap": overlap, "null_mean": mean, "null_sd": spread, "z": z}
            inside = [rows[name][f"{side.value}_inside"] for rows in known]
            numbers["base_mean"] = _mean_given_base(
                one, other, inside, min(settings.rank, *changes[0].difference.shape)
            )
            found |= {f"{side.value}_{column}": value for column, value in numbers.items()}
        return found

    rows = []
    with workers() as pool:
        begun = ahead(((name, pool.submit(row, name)) for name in common), thread_count())
        for done, (name, found) in enumerate(begun):
            if progress is not None:
                progress(f"c and b: {name}", done, len(common))
            rows.append(found.result())
    return INTERFERENCE_SCHEMA.frame(rows)


def _cosine(first: Rows, second: Rows) -> float:
    """Of two matrices as vectors of entries, in float64 a few rows at a time."""
    product, squares = 0.0, [0.0, 0.0]
    for rows in zip(*(with_more_rows(matrix).split(_ROWS) for matrix in (first, second)), strict=True):
        blocks = [block.to("cpu", torch.float64) for block in rows]
        product += float((blocks[0] * blocks[1]).sum())
        squares = [total + float(block.square().sum()) for total, block in zip(squares, blocks, strict=True)]
    return product / math.sqrt(squares[0] * squares[1])


def _mean_given_base(first: Tensor, second: Tensor, inside: list[float], kept: int) -> float:
    """Mean overlap of subspaces of which such parts lie in a leading subspace of so many dimensions."""
    dim, counts = len(first), [first.shape[1], second.shape[1]]
    parts = [overlap * min(count, kept) for overlap, count in zip(inside, counts, strict=True)]
    outside = math.prod(count - part for count, part in zip(counts, parts, strict=True)) / max(1, dim - kept)
    return (math.prod(parts) / kept + outside) / min(counts)
