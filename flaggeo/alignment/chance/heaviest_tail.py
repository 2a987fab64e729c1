"""Tests from a mean and a standard deviation alone, where no law is known: by the heaviest tail that is usual."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from torch import Tensor

from ..observable import Null
from .sign_flip_law import chi_square_tail

PairT = TypeVar("PairT")


def heaviest_tail(value: float, mean: float, sd: float) -> float:
    """Probability of a number at least this large, from the chi-square law of one degree of freedom.

    Of all sums of squares of independent normal numbers with this mean and standard deviation, a single square has the
    heaviest tail, see `sign_flip_law`. At 3 standard deviations above the mean it gives 2 %, where the normal law gives
    0.1 %; for 1 % it takes 4 of them.

    Parameters
    ----------
    value, mean, sd : float

    Returns
    -------
    probability : float
        In [0, 1]; 1 where the number cannot vary.

    Examples
    --------
    >>> round(heaviest_tail(0.5, 0.2, 0.1), 3)
    0.022
    """
    z = np.array((value - mean) / sd if sd > 0 else -np.inf)
    return float(chi_square_tail(z, np.ones(())))


def heavy_tailed_null(
    measure: Callable[[PairT], Tensor],
    law: Callable[[PairT], tuple[float, float]],
    text: str,
    *,
    name: str = "null",
    statement: str | None = None,
) -> Null[PairT]:
    """A null of which mean and standard deviation are known, with the test of `heaviest_tail`."""

    def p_value(pair: PairT) -> tuple[float, float]:
        value, moments = float(measure(pair)), law(pair)
        return heaviest_tail(value, *moments), heaviest_tail(max(value, 1.0), *moments)

    return Null(name=name, text=text, law=law, statement=statement, p_value=p_value)
