"""What became of every stored tensor, also of those that are no map of the network."""

import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..alignment.schema import Column, Schema
from ..checkpoint import Checkpoint, CheckpointError, Progress
from ..network import Network, Side
from ..numerics.spectrum import leading_spectrum
from ..numerics.threads import Room, ahead, thread_count, workers
from ..settings import Settings
from .change import DIFFERENCES_AT_ONCE, WHOLE_UP_TO, WeightPair, changed_by_adapter, stored_change, transposed_tensors
from .delta import inside, leading_directions, measure_rank
from .stored_pairs import StoredPair, stored_pairs

TENSOR_SCHEMA = Schema(
    "One row for each stored tensor, and for each version that is compared with A",
    (
        Column("version", "str", "`b`, or `c` for a further fine-tuning of A"),
        Column("tensor", "str", "name in A; that of the version where A lacks it"),
        Column("layer", "Int64", "layer; missing for what stands outside of them"),
        Column("shape", "str", "as stored"),
        Column(
            "change",
            "str",
            "`unchanged`, `within_precision` (what rounding to the stored type explains), `low_rank`, `full` (of a "
            "matrix: not of low rank), `changed` (of what is no matrix of finite numbers), `reshaped`, `added`, "
            "`removed` (in one file only), or `unknown` (it cannot be read, or the formats have different names "
            "for it)",
        ),
        Column("relative_norm", "float64", "|B - A| / |A|, Frobenius norms"),
        Column("rounding", "float64", "the same of the rounding errors to be expected"),
        Column("rank", "Int64", "of a matrix: singular values of B - A above what rounding alone can give"),
        Column("rank_is_exact", "bool", "whether it is no lower bound"),
        Column("effective_rank", "float64", "exp of the entropy of their squares, over their sum"),
        Column("rank_90", "Int64", "directions that hold 90 % of |B - A|², rounding included"),
        Column("rank_99", "Int64", "directions that hold 99 %"),
        Column("energy_1", "float64", "share of |B - A|² in its first direction"),
        Column(
            "read_inside",
            "float64",
            "overlap of the leading input directions of B - A with the leading input subspace of A; at most as many "
            "directions as the rank of the comparison",
        ),
        Column("read_inside_null", "float64", "the same of unrelated (Haar) subspaces, mean"),
        Column("write_inside", "float64", "the same of the output directions"),
        Column("write_inside_null", "float64", "the same of unrelated (Haar) subspaces, mean"),
    ),
)
#: Changes that no rounding explains.
CHANGED = ("low_rank", "full", "changed", "reshaped", "added", "removed")

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


def tensor_table(
    version: str,
    first: Network,
    second: Network,
    deltas: pd.DataFrame,
    settings: Settings,
    device: torch.device,
    progress: Progress | None,
) -> pd.DataFrame:
    """What became of every stored tensor from the first network to the second.

    Parameters
    ----------
    version : {"b", "c"}
        What the second is called.
    first, second : Network
    deltas : pandas.DataFrame
        From `delta_table`, or empty: what is known there of a whole tensor is not measured again.
    settings : Settings
        Of which the rank is taken. Roles and layers choose no tensors: all are compared.
    device : torch.device
    progress : callable or None

    Returns
    -------
    table : pandas.DataFrame
        With the columns of `TENSOR_SCHEMA`.

    Notes
    -----
    A few rows of both versions are held at a time, beside their difference unless that is large. Where its smaller side
    is large, its 64 leading directions are found (``rank_is_exact``). Tensors that are equal cost their reading alone.
    """
    checkpoints = first.checkpoint, second.checkpoint
    transposed = transposed_tensors(first)
    whole = _whole_tensors(first, second, deltas["name"], transposed)
    measured = {} if settings.fold_norms else deltas.set_index("name").to_dict("index")
    known = {pair.tensors: measured[pair.name] for pair in whole if pair.name in measured}
    pairs = stored_pairs(*checkpoints, dict(pair.tensors for pair in whole))
    layers = {weight.tensor: weight.layer for network in (second, first) for weight in network.weights}
    touched = changed_by_adapter(*checkpoints)
    foreign = first.checkpoint.naming != second.checkpoint.naming
    room = Room(DIFFERENCES_AT_ONCE)

    def row(pair: StoredPair) -> dict[str, Any]:
        if None in pair:
            return {"change": "unknown" if foreign else "removed" if pair[1] is None else "added"}
        names = tuple(map(str, pair))
        if touched is not None and names[1] not in touched:
            return {"change": "unchanged", "relative_norm": 0.0, "rank": 0, "rank_is_exact": True}
        if names in known:
            return _row(known[names])
        with room.holding(math.prod(checkpoints[0].headers[names[0]].shape)):
            return _measured(checkpoints, names, settings, device, transposed=names[0] in transposed)

    rows = []
    with workers() as pool:
        begun = ahead(((pair, pool.submit(row, pair)) for pair in pairs), thread_count())
        unmeasured = [pair for pair in pairs if None not in pair and pair not in known]
        places = {pair: place for place, pair in enumerate(unmeasured)}
        for pair, found in begun:
            if progress is not None and pair in places:
                progress(f"tensors of {version}: {pair[0]}", places[pair], len(places))
            rows.append(_described(version, pair, checkpoints, layers) | found.result())
    for checkpoint in checkpoints:
        checkpoint.require_unchanged()
    return TENSOR_SCHEMA.frame(rows)


def _whole_tensors(
    first: Network, second: Network, names: "pd.Series[str]", transposed: frozenset[str]
) -> list[WeightPair]:
    """Weights that are all of a stored matrix, in both networks and whatever the order of its rows."""

    def is_whole(network: Network, pair: WeightPair, side: int) -> bool:
        weight = (pair.before, pair.after)[side]
        shape = network.checkpoint.headers[pair.tensors[side]].shape if weight.head is None else ()
        return len(shape) == 2 and weight.after is None and math.prod(shape) == weight.source.dim * weight.target.dim

    pairs = WeightPair.in_both(first, second, names)
    both = [pair for pair in pairs if pair.before.split.transposed == (pair.tensors[0] in transposed)]
    return [pair for pair in both if is_whole(first, pair, 0) and is_whole(second, pair, 1)]


def _described(
    version: str, pair: StoredPair, checkpoints: tuple[Checkpoint, Checkpoint], layers: dict[str, int | None]
) -> dict[str, Any]:
    name = pair[0] or pair[1]
    assert name is not None
    number = _NUMBER.search(name)
    shape = checkpoints[0 if pair[0] else 1].headers[name].shape
    return {
        "version": version,
        "tensor": name,
        "layer": layers[name] if name in layers else number and int(number[1]),
        "shape": "x".join(map(str, shape)) or "scalar",
        "rank_is_exact": False,
    }


def _measured(
    checkpoints: tuple[Checkpoint, Checkpoint],
    names: tuple[str, ...],
    settings: Settings,
    device: torch.device,
    *,
    transposed: bool,
) -> dict[str, Any]:
    shapes = [tuple(one.headers[name].shape) for one, name in zip(checkpoints, names, strict=True)]
    if shapes[0] != shapes[1]:
        return {"change": "reshaped"}
    try:
        if not math.prod(shapes[0]) or not shapes[0]:
            raise CheckpointError("no line of numbers")
        change = stored_change(checkpoints, names, device, transposed=transposed)
    except CheckpointError:
        return {"change": _equality(checkpoints, names)}
    columns, leading = measure_rank(
        change, whole=min(change.difference.shape) <= WHOLE_UP_TO or "spectra" in settings.measure
    )
    if len(shapes[0]) != 2:
        sizes = {name: columns[name] for name in ("relative_norm", "rounding")}
        return sizes | {"change": "changed" if columns["rank"] else _row(columns)["change"]}
    if columns["rank"] and change.base_norm:
        moved = leading_directions(change, leading, columns["rank"], settings.rank)
        del change  # before the next whole tensor is read
        stored = checkpoints[0].read(names[0], device=device)
        base = leading_spectrum(stored.mT if transposed else stored, settings.rank)
        for side in Side:
            found = inside(moved[side], base.frame(side))
            columns |= {f"{side.value}_{name}": value for name, value in found.items()}
    return _row(columns)


def _row(columns: Mapping[Any, Any]) -> dict[str, Any]:
    """What is kept of a matrix: how many directions hold a change says nothing of one that is rounding alone."""
    if columns["rank"]:
        return {**columns, "change": "low_rank" if columns["low_rank"] else "full"}
    kept = {name: columns[name] for name in ("relative_norm", "rounding", "rank", "rank_is_exact")}
    return kept | {"change": "unchanged" if math.isnan(columns["energy_1"]) else "within_precision"}


def _equality(checkpoints: tuple[Checkpoint, Checkpoint], names: tuple[str, ...]) -> str:
    """Of numbers that are no measurements: integers, packed ones, or not finite."""
    try:
        before, after = (one.stored(name) for one, name in zip(checkpoints, names, strict=True))
    except CheckpointError:
        return "unknown"
    same = torch.equal(before, after) or (before.dtype == after.dtype and torch.equal(*map(_bytes, (before, after))))
    return "unchanged" if same else "changed"


def _bytes(tensor: Tensor) -> Tensor:
    """In which NaN is the same as itself."""
    return tensor.contiguous().flatten().view(torch.uint8)
