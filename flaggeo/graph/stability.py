"""Which edges would stand at another rank, and with numbers stored more exactly."""

import pandas as pd

#: Truth values of an edge, by the condition of the table of stability that each is read from.
STANDS = {
    "half_rank": "stands_at_half_rank",
    "double_rank": "stands_at_double_rank",
    "rounded": "stands_after_rounding",
}
#: Whether an edge stands under all of them.
STABLE = "stable"


def standing(stability: pd.DataFrame, false_discovery_rate: float) -> pd.DataFrame:
    """Whether each pair would pass the tests of an edge under every condition.

    Parameters
    ----------
    stability : pandas.DataFrame
        `Analysis.stability`.
    false_discovery_rate : float
        Largest q-value of an edge.

    Returns
    -------
    table : pandas.DataFrame
        One row a pair: ``source``, ``target``, ``kind``, the columns of `STANDS`, and `STABLE`. Whether a pair is among
        the strongest of its ends, as an edge is, is not asked again.
    """
    table = stability[["source", "target", "kind"]].copy()
    for condition, column in STANDS.items():
        significant = stability[f"{condition}_q_value"] <= false_discovery_rate
        table[column] = significant & (stability[f"{condition}_excess"] > 0)
    table[STABLE] = table[list(STANDS.values())].all(axis="columns")
    return table
