"""All claims, by paper, and the experiments that they need."""

from collections.abc import Iterable

from . import alignment, architectures, continuity, geometry, laws, mnist, untested
from .claim import Claim
from .experiment import Experiment

#: By title of the paper; the last are questions that this tool raises itself.
PAPERS = {
    alignment.TITLE: (*alignment.CLAIMS, *laws.ALIGNMENT, *untested.ALIGNMENT),
    continuity.TITLE: (
        *continuity.CLAIMS,
        *architectures.CLAIMS,
        *mnist.CLAIMS,
        *laws.CONTINUITY,
        *untested.CONTINUITY,
    ),
    geometry.TITLE: geometry.CLAIMS,
}


def every_claim() -> tuple[Claim, ...]:
    """All of them, in order."""
    return tuple(claim for of_paper in PAPERS.values() for claim in of_paper)


def claims(names: Iterable[str] | None = None) -> tuple[Claim, ...]:
    """Claims of these names, or all but those apart, in order.

    Raises
    ------
    ValueError
        If there is no claim of a name.
    """
    known = {claim.name: claim for claim in every_claim()}
    chosen = dict.fromkeys(names or (name for name, claim in known.items() if not claim.apart))
    unknown = sorted(chosen.keys() - known.keys())
    if unknown:
        raise ValueError(f"{unknown[0]!r}: expected a claim, one of {', '.join(known)}, or all")
    return tuple(claim for name, claim in known.items() if name in chosen)


def experiments_of(chosen: Iterable[Claim]) -> tuple[Experiment, ...]:
    """What these claims need, each once."""
    needed = (one for claim in chosen for case in claim.cases for one in case.experiments)
    return tuple({experiment.name: experiment for experiment in needed}.values())
