"""What is measured of a network: every option, with its default, its check and its help, in one place."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from itertools import chain
from operator import index
from typing import TYPE_CHECKING, Any, SupportsIndex, TypedDict, TypeGuard

if TYPE_CHECKING:
    from .network import Network, Weight

#: What can be measured, in the order of the page.
MEASUREMENTS = ("continuity", "pairs", "heads", "interfaces", "spectra", "structure", "stability")
#: What answers most questions fastest: it needs the leading singular directions and closed-form nulls alone.
BY_DEFAULT = ("continuity", "pairs")
# What each of these says something of, and brings with it.
_BROUGHT = {"structure": {"pairs"}, "stability": {"pairs", "structure"}}

# No network is deeper: 0-999999999999 is an error, not a list that fills the memory.
_LAST_LAYER = 9999

#: Takes the name of an option and what was given; gives its normal form or raises ValueError.
_Check = Callable[[str, Any], Any]


class Options(TypedDict, total=False):
    """The fields of `Settings` as keyword arguments, of which any may be left out."""

    rank: int
    roles: Iterable[str] | None
    layers: int | str | Iterable[int] | None
    fold_norms: bool
    draws: int
    seed: int
    measure: Iterable[str]


def _option(default: Any, check: _Check, help_text: str, *, short: str | None = None) -> Any:
    """A field with its check, the sentence that every command prints of it, and its short flag."""
    return field(default=default, metadata={"check": check, "help": help_text, "short": short})


def _whole(least: int, most: float = float("inf")) -> _Check:
    def check(name: str, given: Any) -> int:
        try:
            number = index(given)
        except TypeError:
            number = least - 1
        if isinstance(given, bool) or not least <= number <= most:
            bounds = f"of at least {least}" if most == float("inf") else f"from {least} to {most}"
            raise ValueError(f"{name}: expected a whole number {bounds}; got {given!r}")
        return number

    return check


def _switch(name: str, given: Any) -> bool:
    if given not in (True, False):
        raise ValueError(f"{name}: expected True or False; got {given!r}")
    return bool(given)


def _layers(name: str, given: SupportsIndex | str | Iterable[int]) -> tuple[int, ...]:
    layer = _whole(0, _LAST_LAYER)
    numbers = _ranges(name, given) if isinstance(given, str) else given if _is_several(given) else [given]
    chosen = tuple(sorted({layer(name, one) for one in numbers}))
    if not chosen:
        raise ValueError(f"{name}: expected some layers; got none")
    return chosen


def _is_several(given: Any) -> TypeGuard[Iterable[Any]]:
    """Whether there may be several; an array without a dimension says that it is iterable, and is one number."""
    return isinstance(given, Iterable) and getattr(given, "ndim", 1) > 0


def _ranges(name: str, text: str) -> Iterable[int]:
    """Numbers of ranges such as 0-5,8, one after the other: there may be more than the memory holds."""
    ranges = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            raise ValueError(f"{name}: expected numbers and ranges as in 0-5,8; found {part!r}")
        ranges.append(range(int(first), int(last or first) + 1))
    return chain.from_iterable(ranges)


def _words(given: str | Iterable[str]) -> set[str]:
    """What was given one by one, or in one text between commas."""
    return {word.strip() for word in given.split(",")} if isinstance(given, str) else set(given)


def _among(known: Callable[[], tuple[str, ...]]) -> _Check:
    """What was given in the order of what is known, which is looked up when it is needed."""

    def check(name: str, given: str | Iterable[str]) -> tuple[str, ...]:
        asked = _words(given)
        unknown = sorted(asked - set(known()))
        if unknown or not asked:
            raise ValueError(f"{name}: expected some of {', '.join(known())}; got {', '.join(unknown) or 'none'}")
        return tuple(one for one in known() if one in asked)

    return check


def _measurements(name: str, given: str | Iterable[str]) -> tuple[str, ...]:
    asked = _words(given)
    if asked == {"all"}:
        return MEASUREMENTS
    chosen = _among(lambda: MEASUREMENTS)(name, asked)
    brought = set().union(*(_BROUGHT.get(one, ()) for one in chosen))
    return tuple(one for one in MEASUREMENTS if one in chosen or one in brought)


def _roles() -> tuple[str, ...]:
    from .network import ROLES

    return ROLES


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured. The device, which changes no number beyond rounding, is not part of it.

    Attributes
    ----------
    rank : int
        Singular directions kept of each weight, capped at its smaller side; a remark of the result names the weights
        of which all are kept.
    roles : tuple of str or None
        Only weights of these roles, in the order of `flaggeo.network.ROLES`, from names or a text such as ``"q,k"``;
        all of them for None.
    layers : tuple of int or None
        Only these layers, ascending, from numbers or a text such as ``"0-5,8"``; all of them for None. Weights without
        a layer (embed, unembed) are chosen by their role alone.
    fold_norms : bool
        Whether the norms beside a weight are folded into its matrix, their gains and what a LayerNorm does not see,
        see `Network.matrix`. Only then do rotations of the stream leave the numbers of reading weights unchanged. The
        papers measure the weights as they are stored, which is the default.
    draws : int
        Random draws of each null that has no closed form. There are none by default; 20 about double the time. Those of
        matched experts are made always.
    seed : int
        Seed of these draws. The draws of one seed differ between kinds of device.
    measure : tuple of str
        Which of `MEASUREMENTS` are made, from names or a text such as ``"heads,spectra"``, or ``all``. The tables of
        the others are empty.

        - ``continuity``: one weight in neighbouring layers. Fills the tables that begin with this word, trajectories
          and experts.
        - ``pairs``: leading subspaces of any two weights of one space. Fills pairs and pair_nulls, from which the
          alignment graph is made.
        - ``heads``: every attention head as a weight of its own as well, and the table of heads. The number of pairs
          grows with the square of the number of subspaces: 22 thousand for a 30-layer model without heads, 430 thousand
          with 9 in each layer.
        - ``interfaces``: whole weights that compose, inside MLPs and heads. Fills interfaces and interfaces_by_rank.
        - ``spectra``: all singular values and whole Gram matrices, for the columns effective_rank, above_random_edge
          and gram_cosine. Their cost grows with the cube of the width.
        - ``structure``: statistics of the alignment graph against rewired ones. Brings pairs.
        - ``stability``: whether its edges would stand at other ranks and after rounding. Brings structure.

    Raises
    ------
    ValueError
        If a number is out of range, or a role or measurement does not exist.

    Examples
    --------
    >>> Settings(roles=["k", "q"]).roles
    ('q', 'k')
    """

    rank: int = _option(16, _whole(1), "Keep this many singular directions of each weight.", short="-k")
    roles: tuple[str, ...] | None = _option(None, _among(_roles), "Restrict to these roles, for example q,k.")
    layers: tuple[int, ...] | None = _option(None, _layers, "Restrict to these layers, for example 0-5,8.")
    fold_norms: bool = _option(False, _switch, "Fold the gains of the norms beside a weight into its matrix.")
    draws: int = _option(
        0, _whole(0), "Draw each null that has no closed form this many times; 20 draws about double the time."
    )
    seed: int = _option(0, _whole(0), "Seed the random draws with this number.")
    measure: tuple[str, ...] = _option(
        BY_DEFAULT, _measurements, f"Measure some of {', '.join(MEASUREMENTS)}, or all of them."
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if value is not option.default:
                object.__setattr__(self, option.name, option.metadata["check"](option.name, value))

    @property
    def heads(self) -> bool:
        """Whether attention heads are weights of their own as well."""
        return "heads" in self.measure

    @property
    def kept_rank(self) -> int:
        """Singular directions that are computed of each weight: twice the rank where stability asks for them."""
        return 2 * self.rank if "stability" in self.measure else self.rank

    @property
    def draws_surrogates(self) -> bool:
        """Whether surrogates of the weights are drawn: pairs and heads take their share of those for continuity."""
        return self.draws > 0 and (self.heads or not {"continuity", "pairs"}.isdisjoint(self.measure))

    def includes(self, weight: "Weight", *, heads: bool | None = None) -> bool:
        """Whether a weight is among those that are measured, or would be with or without heads."""
        return (
            (self.roles is None or weight.record.name in self.roles)
            and (self.layers is None or weight.layer is None or weight.layer in self.layers)
            and ((self.heads if heads is None else heads) or weight.head is None)
        )

    def chosen(self, network: "Network") -> list["Weight"]:
        """Weights of a network that are measured, in order of depth, with the stacks of experts.

        Raises
        ------
        ValueError
            If the network lacks a layer that was asked for, no weight has the roles and layers, or the rank is above
            the smaller side of each that has.
        """
        missing = sorted(set(self.layers or ()) - set(network.layer_numbers))
        if missing:
            raise ValueError(f"layers: expected layers from 0 to {network.layer_numbers[-1]}; got {missing[0]}")
        chosen = [weight for layer in network.layers for weight in layer.weights if self.includes(weight)]
        if not chosen:
            present = ", ".join(dict.fromkeys(weight.role for weight in network.weights))
            raise ValueError(f"no weight has the roles and layers asked for; there are {present}")
        largest = max(weight.smaller_side for weight in chosen)
        if self.rank > largest:
            raise ValueError(f"rank: expected at most {largest}, the largest smaller side of a weight; got {self.rank}")
        return chosen

    def remarks(self, weights: Iterable["Weight"]) -> list[str]:
        """What these settings imply for some of the weights that are measured, in words."""
        complete: dict[tuple[str, int], None] = {}
        for weight in weights:
            if weight.smaller_side <= self.rank:
                kind = weight.role if weight.head is None else f"heads of {weight.role}"
                complete[kind, weight.smaller_side] = None
        if not complete:
            return []
        kinds = ", ".join(f"{kind} ({side})" for kind, side in complete)
        return [
            f"rank {self.rank} is at least the smaller side of {kinds}: all of its directions are kept, and a side "
            "that they fill has no overlap to measure"
        ]

    def record(self) -> dict[str, Any]:
        """The settings as plain numbers, strings and lists, for JSON; `from_record` reads them back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Settings":
        """Read back what `record` gave.

        Raises
        ------
        ValueError
            If a setting is unknown or out of range.
        """
        unknown = sorted(record.keys() - {known.name for known in fields(cls)})
        if unknown:
            raise ValueError(f"expected settings that this version knows; found {', '.join(unknown)}")
        return cls(**record)


def given_options(settings: Settings | None, options: Options) -> dict[str, Any]:
    """The options that a caller gave, checked and in normal form, by name: all of them where it gave settings.

    Raises
    ------
    TypeError
        If both are given, or an option does not exist.
    ValueError
        If an option is out of range.
    """
    if settings is not None and options:
        raise TypeError(f"expected settings or single options; got settings and {', '.join(options)}")
    if settings is not None:
        return dict(vars(settings))
    known = [option.name for option in fields(Settings)]
    for name in options:
        if name not in known:
            meant = get_close_matches(name, known) or known
            raise TypeError(f"expected settings such as {', '.join(meant)}; got {name!r}")
    checked = Settings(**options)  # type: ignore[arg-type]  # its checks make tuples of whatever can be gone through
    return {name: getattr(checked, name) for name in options}
