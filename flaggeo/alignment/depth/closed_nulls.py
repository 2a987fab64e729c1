"""Continuity under the nulls that keep outlier channels, and where norm-matched weights lie, without a draw."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...network import Side, Weight
from ...numerics.spectrum import Spectrum
from ..chance.norm_matched_law import norm_matched_cosine, norm_matched_leverages, norm_matched_overlap
from ..chance.sign_flip import leverages, sign_flips_of_lines
from ..heads.factors import ProjectionHeads
from .drawn_nulls import NULL_SCHEMA, Nulls
from .layer_pair import comparable_sides, layer_chains

_LEADING, _FIRST, _WHOLE = "leading", "first", "whole"


@dataclass(frozen=True)
class _Matrix:
    """A norm-matched matrix of which the leverages of so many directions are wanted."""

    weight: Weight
    directions: str
    rank: int
    row_norms: Tensor
    column_norms: Tensor


def closed_nulls(
    weights: Iterable[Weight], spectra: Mapping[str, Spectrum], heads: Iterable[ProjectionHeads] = ()
) -> Nulls:
    """Continuity of every role under the seeded nulls, and mean leverages of norm-matched weights.

    Parameters
    ----------
    weights : iterable of Weight
        Single experts are passed over; the stack of a layer stands for them.
    spectra : mapping of str to Spectrum
        By name of the weight.
    heads : iterable of ProjectionHeads, optional
        Those of which all directions are compared. Their projections and the heads are among the weights.

    Returns
    -------
    nulls : Nulls
        In its table ``sd`` takes layer pairs as independent, which they are given the leverages, and ``draws`` is 0.
        There are no rows for equal norms, for which every weight would have to be decomposed once more.

    Notes
    -----
    A head is a block of the rows (or, of an output, the columns) of its projection: it has norms of its own there, and
    the scales of the projection along the stream.

    References
    ----------
    docs/measurements.md, "Nulls that keep outlier channels".
    """
    measured = [weight for weight in weights if weight.expert is None]
    chains = layer_chains(measured)
    found = _leverages(_matrices(measured, chains, spectra, heads))
    rows = [
        row
        for role, chain in chains.items()
        for side in Side
        if (pairs := list(_neighbours(chain, side, spectra)))
        for row in _rows(role, side, pairs, spectra, found)
    ]
    by_directions: dict[str, dict[str, Tensor]] = {_LEADING: {}, _WHOLE: {}, _FIRST: {}}
    for (name, side, directions), of_side in found.items():
        by_directions[directions][f"{name}.{side.value}"] = of_side
    return Nulls(NULL_SCHEMA.frame(rows), by_directions[_LEADING], by_directions[_WHOLE])


def norm_matched_cosines(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> dict[tuple[str, Side], float]:
    """Mean |cos| of the first directions of norm-matched weights alone, as `closed_nulls` has it.

    Parameters
    ----------
    weights : iterable of Weight
    spectra : mapping of str to Spectrum
        By name of the weight, of one direction or more.

    Returns
    -------
    means : dict from role and side to float
        Over neighbouring layers that both have a direction.
    """
    chains = layer_chains(weights)
    matrices = [_first(weight, spectra[weight.name]) for chain in chains.values() for weight in chain]
    found = _leverages(matrices)
    means = {}
    for role, chain in chains.items():
        for side in Side:
            if pairs := list(_neighbours(chain, side, spectra)):
                cosines, _ = norm_matched_cosine(*_of_pairs(pairs, found, side, _FIRST))
                means[role, side] = float(cosines.cpu().double().mean())
    return means


def _matrices(
    weights: list[Weight],
    chains: Mapping[str, list[Weight]],
    spectra: Mapping[str, Spectrum],
    heads: Iterable[ProjectionHeads],
) -> Iterator[_Matrix]:
    in_chains = {weight.name for chain in chains.values() for weight in chain}
    whole_ranks = {name: int(rank) for of_one in heads for name, rank in zip(of_one.weights, of_one.ranks, strict=True)}
    projections = {(weight.tensor, weight.role): weight for weight in weights if weight.head is None}
    for weight in weights:
        spectrum = spectra[weight.name]
        rows, columns = spectrum.row_norms, spectrum.column_norms
        whole = projections.get((weight.tensor, weight.role))
        if weight.head is not None and whole is not None:
            projection = spectra[whole.name]
            if weight.record.side is Side.READ:
                columns = projection.column_norms
            else:
                rows = projection.row_norms
        rank = spectrum.frame(weight.sides[0]).shape[1]
        yield _Matrix(weight, _LEADING, rank, rows, columns)
        if weight.name in in_chains:
            yield _first(weight, spectrum)
        if weight.name in whole_ranks:
            yield _Matrix(weight, _WHOLE, whole_ranks[weight.name], rows, columns)


def _first(weight: Weight, spectrum: Spectrum) -> _Matrix:
    rank = min(spectrum.frame(weight.sides[0]).shape[1], 1)
    return _Matrix(weight, _FIRST, rank, spectrum.row_norms, spectrum.column_norms)


def _leverages(matrices: Iterable[_Matrix]) -> dict[tuple[str, Side, str], Tensor]:
    """By name of the weight, side and directions; matrices of one shape together."""
    by_shape: dict[tuple[bool, int, int], list[_Matrix]] = {}
    for matrix in matrices:
        shape = (matrix.weight.head is None, len(matrix.row_norms), len(matrix.column_norms))
        by_shape.setdefault(shape, []).append(matrix)
    found = {}
    # One after the other: so many small steps in several threads took three times as long.
    for (is_whole, _, _), same in by_shape.items():
        left, right = norm_matched_leverages(
            torch.stack([matrix.row_norms for matrix in same]),
            torch.stack([matrix.column_norms for matrix in same]),
            torch.tensor([matrix.rank for matrix in same]),
            fixed_norms=is_whole,
        )
        for matrix, of_rows, of_columns in zip(same, left, right, strict=True):
            for side in matrix.weight.sides:
                key = (matrix.weight.name, side, matrix.directions)
                found[key] = of_columns if side is Side.READ else of_rows
    return found


def _neighbours(chain: list[Weight], side: Side, spectra: Mapping[str, Spectrum]) -> Iterator[tuple[str, str]]:
    """Names of neighbouring weights that both have a direction."""
    for earlier, later in pairwise(chain):
        both = earlier, later
        if (
            side in comparable_sides(*both)
            and earlier.space(side).dim == later.space(side).dim
            and all(spectra[weight.name].frame(side).shape[1] for weight in both)
        ):
            yield earlier.name, later.name


def _of_pairs(
    pairs: list[tuple[str, str]], found: Mapping[tuple[str, Side, str], Tensor], side: Side, directions: str
) -> tuple[Tensor, Tensor]:
    first, second = (
        torch.stack([found[name, side, directions] for name in names]) for names in zip(*pairs, strict=True)
    )
    return first, second


def _rows(
    role: str,
    side: Side,
    pairs: list[tuple[str, str]],
    spectra: Mapping[str, Spectrum],
    found: Mapping[tuple[str, Side, str], Tensor],
) -> Iterator[dict[str, object]]:
    frames = [[spectra[name].frame(side) for name in pair] for pair in pairs]
    lines = [torch.stack([pair[place][:, 0] for pair in frames]) for place in (0, 1)]
    line_mean, _, _ = sign_flips_of_lines(*lines)
    line_square = (lines[0].cpu().double() * lines[1].cpu().double()).square().sum(dim=-1)
    overlaps = [
        (leverages(first) * leverages(second)).sum() / min(first.shape[1], second.shape[1]) for first, second in frames
    ]
    laws = {
        ("norm_matched", "abs_cos_1"): norm_matched_cosine(*_of_pairs(pairs, found, side, _FIRST)),
        ("norm_matched", "overlap"): norm_matched_overlap(*_of_pairs(pairs, found, side, _LEADING)),
        ("sign_flip", "abs_cos_1"): (line_mean, (line_square - line_mean.square()).clamp(min=0).sqrt()),
        ("sign_flip", "overlap"): (torch.stack(overlaps), None),
    }
    for (null, measure), (means, sds) in laws.items():
        sd = float("nan") if sds is None else float(torch.linalg.vector_norm(sds)) / len(pairs)
        mean = float(means.cpu().double().mean())
        row = {"role": role, "side": side.value, "null": null, "measure": measure}
        yield row | {"mean": mean, "sd": sd, "draws": 0, "closed_form": mean}
