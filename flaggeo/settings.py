"""What is measured of a network: every option, its default, its check and its help, in one place."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from .network import Network, Weight

#: What can be measured: one weight in neighbouring layers, pairs of subspaces, weights that compose.
MEASUREMENTS = ("continuity", "pairs", "interfaces")


class Options(TypedDict, total=False):
    """The fields of `Settings` as keyword arguments, of which any may be left out."""

    rank: int
    roles: Collection[str] | None
    layers: Collection[int] | None
    heads: bool
    fold_norms: bool
    draws: int
    seed: int
    measure: Collection[str]


def _option(default: Any, help_text: str, *, short: str | None = None) -> Any:
    """A field with the text that every command prints of it, and its short flag."""
    return field(default=default, metadata={"help": help_text, "short": short})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured. The device, which changes no number beyond rounding, is none of it.

    Attributes
    ----------
    rank : int
        Singular directions kept of each weight, capped at its smaller side.
    roles : tuple of str or None
        Only weights of these roles, in the order of `flaggeo.network.ROLES`; all of them for None.
    layers : tuple of int or None
        Only these layers, ascending; all of them for None. Weights without a layer (embed, unembed) are chosen by
        their role alone.
    heads : bool
        Whether every attention head is a weight of its own as well. The number of pairs grows with the square of
        the number of subspaces: 22 thousand for a 30-layer model without heads, 430 thousand with 9 in each layer.
    fold_norms : bool
        Whether the gains of the norms beside a weight are folded into its matrix, see `Network.matrix`. Only then do
        rotations of the stream leave the numbers of reading weights unchanged. The papers measure the weights as
        they are stored, which is the default.
    draws : int
        Random draws of each null that has no closed form. There are none by default; 20 about double the time.
    seed : int
        Seed of these draws.
    measure : tuple of str
        Which of `MEASUREMENTS` are made; the tables of the others are empty.

    Raises
    ------
    ValueError
        If a number is out of range, or a role or measurement does not exist.
    """

    rank: int = _option(16, "Singular directions kept of each weight.", short="-k")
    roles: tuple[str, ...] | None = _option(None, "Restrict to these roles, e.g. q,k.")
    layers: tuple[int, ...] | None = _option(None, "Restrict to these layers, e.g. 0-5,8.")
    heads: bool = _option(False, "Also treat every attention head as a weight of its own.")
    fold_norms: bool = _option(False, "Fold the gains of the norms beside a weight into its matrix.")
    draws: int = _option(0, "Random draws of each null that has no closed form; 20 about double the time.")
    seed: int = _option(0, "Seed of the random draws.")
    measure: tuple[str, ...] = _option(MEASUREMENTS, f"Measure only these of {', '.join(MEASUREMENTS)}.")

    def __post_init__(self) -> None:
        from .network import ROLES

        for name, least in (("rank", 1), ("draws", 0), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}; got {value!r}")
        if self.roles is not None:
            object.__setattr__(self, "roles", _among("roles", self.roles, ROLES))
        object.__setattr__(self, "measure", _among("measure", self.measure, MEASUREMENTS))
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(sorted({int(layer) for layer in self.layers})))

    def includes(self, weight: "Weight") -> bool:
        """Whether a weight is among those that are measured."""
        return (
            (self.roles is None or weight.role in self.roles)
            and (self.layers is None or weight.layer is None or weight.layer in self.layers)
            and (self.heads or weight.head is None)
        )

    def chosen(self, network: "Network") -> list["Weight"]:
        """Weights of a network that are measured, in order of depth.

        Raises
        ------
        ValueError
            If the network lacks a layer that was asked for, or no weight has the roles and layers.
        """
        missing = sorted(set(self.layers or ()) - set(network.layer_numbers))
        if missing:
            raise ValueError(f"layers: expected layers from 0 to {network.layer_numbers[-1]}; got {missing[0]}")
        chosen = [weight for weight in network.weights if self.includes(weight)]
        if not chosen:
            present = ", ".join(dict.fromkeys(weight.role for weight in network.weights))
            raise ValueError(f"no weight has the roles and layers asked for; there are {present}")
        return chosen

    def record(self) -> dict[str, Any]:
        """The settings as plain numbers, strings and lists, for JSON; `from_record` reads them back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

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


def _among(name: str, given: Collection[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """What was given, in the order of what is known."""
    asked = {given} if isinstance(given, str) else set(given)
    unknown = sorted(asked - set(known))
    if unknown or not asked:
        raise ValueError(f"{name}: expected some of {', '.join(known)}; got {', '.join(unknown) or 'none'}")
    return tuple(one for one in known if one in asked)
