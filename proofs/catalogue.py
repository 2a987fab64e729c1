"""All statements, by name."""

import difflib
import importlib
from typing import overload

from .statement import Statement, Verdict

TOPICS = (
    "orbits",
    "flags",
    "stability",
    "balance",
    "architectures",
    "commutator",
    "gram_commutator",
    "hierarchy",
    "symmetry",
    "observables",
    "randomness",
    "random_grams",
    "interfaces",
    "flag_geodesics",
    "flag_curvature",
    "subspace_angles",
    "coherence",
    "angle_decay",
)


def statements() -> tuple[Statement, ...]:
    """Every statement, in the order of the topics and of their definition.

    Examples
    --------
    >>> next(s.sentence for s in statements() if s.name == "balance_law")
    'Ridge makes the imbalance of two adjacent linear layers decay exponentially, whatever the loss.'
    """
    return tuple(statement for topic in TOPICS for statement in topic_statements(topic))


def topic_statements(topic: str) -> tuple[Statement, ...]:
    """The statements of one topic, in the order of their definition."""
    module = importlib.import_module(f".{topic}", __package__)
    return tuple(member for member in vars(module).values() if isinstance(member, Statement))


@overload
def check(name: str) -> Verdict: ...
@overload
def check(name: None = None) -> tuple[Verdict, ...]: ...
def check(name: str | None = None) -> Verdict | tuple[Verdict, ...]:
    """Check one statement, or all of them.

    Parameters
    ----------
    name : str, optional
        Name of a statement; without it all are checked, in well under two minutes.

    Returns
    -------
    verdict : Verdict, or tuple of Verdict
        Outcome, evidence, dimensions, seconds and algebra.

    Raises
    ------
    ValueError
        If no statement has that name.

    Examples
    --------
    >>> verdict = check("balance_law")
    >>> verdict.conclusion
    'proved for all dimensions'
    """
    known = statements()
    if name is None:
        return tuple(statement.check() for statement in known)
    by_name = {statement.name: statement for statement in known}
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "`flaggeo prove` lists the names."
        raise ValueError(f"no statement is named {name!r}; {hint}")
    return by_name[name].check()
