"""What activations pass between one linear map and the next, and how it limits the changes of basis between them."""

from collections.abc import Iterable
from dataclasses import dataclass

from ..spaces import Symmetry
from ..symmetries import Allowed, hidden_symmetry, meet


@dataclass(frozen=True)
class Norm:
    """A normalisation.

    Attributes
    ----------
    kind : str
        ``layer``, ``rms``, ``batch``, ``group``; ``unknown`` where a module of one's own is none of these.
    size : int
        How many numbers it normalises together, or has a variance for each of.
    gain : str or None
        Tensor of the gains; None where it has none.
    offset : float
        Added to the stored gains.
    variance : str or None
        Tensor of the running variances of a batch norm.
    epsilon : float
        Added to these.
    """

    kind: str
    size: int
    gain: str | None = None
    offset: float = 0.0
    variance: str | None = None
    epsilon: float = 0.0


@dataclass(frozen=True)
class Function:
    """Any operation that is not linear, or is not known to be, by the name of its torch function."""

    name: str


@dataclass(frozen=True)
class Gate:
    """Multiplication with other activations, entry by entry."""


@dataclass(frozen=True)
class Scale:
    """Multiplication with a parameter, entry by entry."""

    tensor: str


@dataclass(frozen=True)
class Filter:
    """A convolution of each channel, or of each group of channels, on its own."""

    tensor: str
    groups: int


Step = Norm | Function | Gate | Scale | Filter


def along(steps: Iterable[Step], *sizes: int) -> tuple[Step, ...]:
    """The same steps for an axis of one of these sizes: a norm of another axis is a function of no known kind."""
    return tuple(
        Function(f"{step.kind} norm of another axis") if isinstance(step, Norm) and step.size not in sizes else step
        for step in steps
    )


def allowed_by(step: Step) -> Allowed:
    """Changes of basis before a step that a change behind it, or of its own parameters, makes up for."""
    match step:
        case Norm("batch") | Filter() | Gate():
            return Symmetry.SCALED_PERMUTATION, False
        case Norm("unknown"):
            return Symmetry.GENERAL_LINEAR, True
        case Norm():
            return Symmetry.ORTHOGONAL, False
        case Scale():
            return Symmetry.GENERAL_LINEAR, False  # the weight beside it takes the parameter over
        case Function(name):
            return hidden_symmetry(name, gated=False)


def allowed_on_the_way(steps: Iterable[Step]) -> Allowed:
    """Changes of basis of a stream that what reads it allows, from the steps in between, the first one first.

    What lies behind a norm or a filter with parameters of its own does not see a change that these make up for.
    """
    groups = []
    for step in steps:
        groups.append(allowed_by(step))
        if isinstance(step, Norm | Filter):
            break
    return meet(groups)


def allowed_between(steps: Iterable[Step]) -> Allowed:
    """Changes of basis of a space between two maps, from all steps in it.

    A gain takes over what a function behind it allows, so that functions alone decide where there are some.
    """
    steps = list(steps)
    if Gate() in steps:
        return allowed_by(Gate())  # a function is then applied to the gate, which keeps to permutations
    functions = [step for step in steps if isinstance(step, Function | Filter)]
    return meet(map(allowed_by, functions or steps))
