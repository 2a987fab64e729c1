"""What the same edges would give if they stood elsewhere: placed at random, or rewired with all degrees kept."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

#: Switches tried for each edge between one rewired graph and the next.
SWITCHES = 10

COMPARISON_COLUMNS = ("value", "null_mean", "null_sd", "z", "null_largest")


def rewired(edges: pd.DataFrame, possible: pd.DataFrame, *, draws: int, seed: int) -> list[pd.DataFrame]:
    """Random graphs in which every subspace keeps the number of its edges of each kind.

    Two edges a-b and c-d of one kind in one space become a-d and c-b (or a-c and b-d where the kind is symmetric),
    if both are pairs that could have been edges and neither is one already; otherwise nothing changes.
    Afterwards the weights are permuted among the edges of the kind in the space.

    Parameters
    ----------
    edges : pandas.DataFrame
        From `edge_table`.
    possible : pandas.DataFrame
        Pairs that could be edges; a signal, for one, runs forward only. Every edge is one.
    draws : int
        Number of graphs.
    seed : int

    Returns
    -------
    tables : list of pandas.DataFrame, length draws
        Like `edges`, in another order. A symmetric edge may have its ends exchanged.

    Notes
    -----
    Switching with rejections has the uniform distribution over the graphs that it can reach as its limit
    (Rao, Jana, Bandyopadhyay 1996). networkx has such switches for undirected and for directed graphs, but they
    know of no pairs that cannot be edges, and a directed one needs a walk of three edges, of which there is none
    between writings and readings.
    """
    rng = np.random.default_rng(seed)
    ends = [edges["source"], edges["target"], possible["source"], possible["target"]]
    numbers, names = pd.factorize(pd.concat(ends, ignore_index=True))
    sources, targets, first, second = np.split(numbers, np.cumsum([len(end) for end in ends])[:-1])
    codes = _codes(first, second, len(names))
    blocks = []
    for rows, slots in _blocks(edges, possible):
        switching = _Switching(sources[rows], targets[rows], codes[slots], len(names), rng)
        blocks.append((edges.iloc[rows], switching))
    tables = []
    for _ in range(draws):
        drawn = []
        for block, switching in blocks:
            ends_now = switching.advance()
            weights = rng.permutation(block["weight"].to_numpy())
            drawn.append(block.assign(source=names[ends_now[0]], target=names[ends_now[1]], weight=weights))
        tables.append(pd.concat(drawn, ignore_index=True) if drawn else edges)
    return tables


class _Switching:
    """Markov chain over the edges of one kind in one space."""

    def __init__(
        self, first: np.ndarray, second: np.ndarray, allowed: np.ndarray, size: int, rng: np.random.Generator
    ) -> None:
        self._first, self._second = first.tolist(), second.tolist()
        self._allowed = set(allowed.tolist())
        self._present = set(_codes(first, second, size).tolist())
        self._size, self._rng = size, rng

    def advance(self) -> tuple[list[int], list[int]]:
        """Ends of the edges after `SWITCHES` tries for each."""
        first, second, allowed, present = self._first, self._second, self._allowed, self._present
        size = self._size
        tries = SWITCHES * len(first)
        ones, others = self._rng.integers(len(first), size=(2, tries)).tolist()
        # Exchanged ends of a write-read edge propose a pair of writings, which is not allowed there.
        exchanged = (self._rng.random(tries) < 0.5).tolist()
        for one, other, exchange in zip(ones, others, exchanged, strict=True):
            a, b = first[one], second[one]
            c, d = (second[other], first[other]) if exchange else (first[other], second[other])
            left = a * size + d if a < d else d * size + a
            right = c * size + b if c < b else b * size + c
            if left in allowed and right in allowed and left not in present and right not in present:
                present.remove(a * size + b if a < b else b * size + a)
                present.remove(c * size + d if c < d else d * size + c)
                present.update((left, right))
                second[one] = d
                first[other], second[other] = c, b
        return list(first), list(second)


def _codes(first: np.ndarray, second: np.ndarray, size: int) -> np.ndarray:
    """One whole number for each pair, whatever its direction."""
    codes: np.ndarray = np.minimum(first, second) * size + np.maximum(first, second)
    return codes


def _blocks(edges: pd.DataFrame, possible: pd.DataFrame) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of the edges, and of the pairs that could be edges, of each kind in each space."""
    slots = possible.groupby(["kind", "space"], sort=True).indices
    for block, rows in edges.groupby(["kind", "space"], sort=True).indices.items():
        yield np.asarray(rows), np.asarray(slots[block])


def placed_strengths(edges: pd.DataFrame, possible: pd.DataFrame, *, draws: int, seed: int) -> pd.DataFrame:
    r"""Strength of every subspace if the edges of each kind and space were dealt at random to its possible pairs.

    Of the M possible pairs of a kind and space, m are edges; as a population, the pairs have m weights and M - m
    zeros, with mean :math:`\mu` and variance :math:`S^2` (over M - 1). The strength of a subspace with a possible
    pairs is the sum of a of them drawn without replacement:

    .. math:: \mathrm{E} = a \mu, \qquad \mathrm{Var} = a \, S^2 \, (1 - a / M).

    Parameters
    ----------
    edges, possible : pandas.DataFrame
        As for `rewired`.
    draws : int
        For ``null_largest``, which has no closed form; the other columns are exact.
    seed : int

    Returns
    -------
    table : pandas.DataFrame
        By ``kind`` and ``subspace``: ``null_mean``, ``null_sd`` and ``null_largest``, the largest strength of any
        subspace of the kind in any draw.
    """
    rng = np.random.default_rng(seed)
    tables = []
    largest: dict[str, float] = {}
    for rows, slots in _blocks(edges, possible):
        block, pairs = edges.iloc[rows], possible[["source", "target"]].iloc[slots]
        kind, count = block["kind"].iloc[0], len(pairs)
        weights = block["weight"].to_numpy()
        mean = weights.sum() / count
        variance = ((weights**2).sum() - count * mean**2) / max(count - 1, 1)
        ends, names = pd.factorize(pd.concat([pairs["source"], pairs["target"]]))
        slots_of = np.bincount(ends, minlength=len(names))
        table = pd.DataFrame({"kind": kind, "subspace": names, "null_mean": slots_of * mean})
        table["null_sd"] = np.sqrt(np.maximum(slots_of * variance * (1 - slots_of / count), 0))
        tables.append(table)
        for _ in range(draws):
            chosen = rng.choice(count, size=len(weights), replace=False)
            both = np.concatenate([ends[chosen], ends[chosen + count]])
            largest[kind] = max(largest.get(kind, 0.0), np.bincount(both, weights=np.tile(weights, 2)).max())
    if not tables:
        return pd.DataFrame(columns=["kind", "subspace", "null_mean", "null_sd", "null_largest"])
    table = pd.concat(tables, ignore_index=True)
    return table.assign(null_largest=table["kind"].map(largest).astype("float64"))


def compared(value: Mapping[str, float] | pd.Series, nulls: Sequence[Mapping[str, float] | pd.Series]) -> pd.DataFrame:
    """Values beside their mean and spread over null graphs; the columns are `COMPARISON_COLUMNS`.

    Parameters
    ----------
    value : mapping of str to float
    nulls : sequence of mapping of str to float
        Of the null graphs; a name that one of them lacks counts as 0 there.

    Returns
    -------
    table : pandas.DataFrame
        By name. ``null_sd`` needs two null graphs; ``z`` also needs them to differ. ``null_largest`` is the largest
        value of any name in any null graph.
    """
    table = pd.DataFrame({"value": pd.Series(value, dtype="float64")})
    drawn = pd.DataFrame(
        {position: pd.Series(null, dtype="float64") for position, null in enumerate(nulls)}, dtype="float64"
    )
    largest = drawn.max().max()
    drawn = drawn.reindex(table.index).fillna(0.0)
    table["null_mean"] = drawn.mean(axis=1)
    table["null_sd"] = drawn.std(axis=1)
    table["z"] = z_score(table)
    return table.assign(null_largest=largest)


def z_score(table: pd.DataFrame) -> "pd.Series[float]":
    """How many spreads of the null a value lies above its mean; NaN where the null does not vary."""
    varies = table["null_sd"] > 1e-12 * table["null_mean"].abs()
    return (table["value"] - table["null_mean"]) / table["null_sd"].where(varies)
