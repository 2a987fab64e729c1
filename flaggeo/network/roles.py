"""Every role that a weight can have, one record a role. Nothing else in the package lists roles.

To add a role, add a record, in the order in which a signal meets the roles inside a layer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .spaces import Side, SpaceKind


class BlockKind(Enum):
    """The parts of a network between which the stream runs."""

    EMBEDDING = "embedding"
    ATTENTION = "attention"
    CROSS_ATTENTION = "cross-attention"
    MIXER = "mixer"
    CONVOLUTION = "convolution"
    MLP = "mlp"
    EXPERTS = "experts"
    SHARED_EXPERT = "shared expert"
    UNNAMED = "unnamed"
    UNEMBEDDING = "unembedding"


class HeadGroup(Enum):
    """What the heads of a projection are numbered by: query heads share the fewer key-value heads."""

    QUERY = "query"
    KEY_VALUE = "key_value"


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a weight does in its layer.

    Attributes
    ----------
    name : str
    block : BlockKind
        The part of the network that it belongs to.
    stage : int
        Roles of one stage see the same activations; a later stage sees what an earlier one wrote.
    side : Side or None
        The end that faces the stream; None for a weight inside a block.
    inner : SpaceKind
        The kind of the space at the other end.
    place : str
        What the spaces inside its block are called by, where a layer has several blocks of one kind.
    read_by : tuple of str
        Roles that read what it writes inside the block.
    multiplied_with : str or None
        The role that writes to the same space, where the products of the two are what goes on: queries with keys.
        The writing of this one is then a covector of the space, and the other's a vector.
    heads : HeadGroup or None
        What its heads are numbered by; None where it has none.
    products : str or None
        What its heads compute, in the plural.
    scalable : bool
        Whether scalings of single units of the inner space act on it. On a gate they do not: what multiplies
        ``activation(gate)`` may be scaled, the argument of the activation may not.
    """

    name: str
    block: BlockKind
    stage: int
    side: Side | None
    inner: SpaceKind
    place: str = ""
    read_by: tuple[str, ...] = ()
    multiplied_with: str | None = None
    heads: HeadGroup | None = None
    products: str | None = None
    scalable: bool = True

    @property
    def is_table(self) -> bool:
        """Whether it stands outside the layers, at an end of the stream."""
        return self.block in (BlockKind.EMBEDDING, BlockKind.UNEMBEDDING)

    @property
    def writes_to_stream(self) -> bool:
        """Whether what it writes is added to the stream, where a LayerNorm does not see its mean."""
        return self.side is Side.WRITE

    @property
    def concatenation(self) -> str:
        """What the spaces of all its heads side by side are called."""
        return f"mixed {self.inner.value}" if self.writes_to_stream else self.products or self.inner.value


def _attention(block: BlockKind, stage: int, prefix: str = "", place: str = "") -> tuple[Role, ...]:
    """The four projections of an attention block."""
    at: dict[str, Any] = {"block": block, "place": place}
    read: dict[str, Any] = at | {"stage": stage, "side": Side.READ}
    keys: dict[str, Any] = read | {"inner": SpaceKind.KEYS}
    values: dict[str, Any] = {"inner": SpaceKind.VALUES}
    query, shared = HeadGroup.QUERY, HeadGroup.KEY_VALUE
    return (
        Role(name=f"{prefix}q", **keys, multiplied_with=f"{prefix}k", heads=query, products="queries"),
        Role(name=f"{prefix}k", **keys, heads=shared, products="keys"),
        Role(name=f"{prefix}v", **read, **values, read_by=(f"{prefix}o",), heads=shared, products="values"),
        Role(name=f"{prefix}o", **at, **values, stage=stage + 1, side=Side.WRITE, heads=query, products="outputs"),
    )


def _mlp(block: BlockKind, prefix: str = "", place: str = "") -> tuple[Role, ...]:
    """The weights of a hidden layer, with its gate."""
    at: dict[str, Any] = {"block": block, "place": place, "inner": SpaceKind.HIDDEN}
    read: dict[str, Any] = at | {"stage": 4, "side": Side.READ, "read_by": (f"{prefix}down",)}
    return (
        Role(name=f"{prefix}gate", **read, scalable=False),
        Role(name=f"{prefix}up", **read),
        Role(name=f"{prefix}down", **at, stage=5, side=Side.WRITE),
    )


_RECORDS = (
    Role(
        name="embed",
        block=BlockKind.EMBEDDING,
        stage=0,
        side=Side.WRITE,
        inner=SpaceKind.VOCABULARY,
    ),
    *_attention(BlockKind.ATTENTION, 0),
    Role(
        name="attention_gate",
        block=BlockKind.ATTENTION,
        stage=0,
        side=Side.READ,
        inner=SpaceKind.MIXED,
        place="attention_gate",
    ),
    *_attention(BlockKind.CROSS_ATTENTION, 2, "cross_", "cross"),
    Role(
        name="mixer_in",
        block=BlockKind.MIXER,
        stage=0,
        side=Side.READ,
        inner=SpaceKind.MIXED,
        place="mixer.in",
    ),
    Role(
        name="mixer_out",
        block=BlockKind.MIXER,
        stage=1,
        side=Side.WRITE,
        inner=SpaceKind.MIXED,
        place="mixer.out",
    ),
    Role(
        name="conv_in",
        block=BlockKind.CONVOLUTION,
        stage=0,
        side=Side.READ,
        inner=SpaceKind.PATCHES,
        place="conv.in",
    ),
    Role(
        name="conv_out",
        block=BlockKind.CONVOLUTION,
        stage=1,
        side=Side.WRITE,
        inner=SpaceKind.PATCHES,
        place="conv.out",
    ),
    *_mlp(BlockKind.MLP),
    Role(
        name="router",
        block=BlockKind.EXPERTS,
        stage=4,
        side=Side.READ,
        inner=SpaceKind.EXPERTS,
    ),
    *_mlp(BlockKind.EXPERTS, "expert_"),
    *_mlp(BlockKind.SHARED_EXPERT, "shared_", "shared"),
    # Of modules of which no more is known than what faces a stream.
    Role(
        name="in",
        block=BlockKind.UNNAMED,
        stage=0,
        side=Side.READ,
        inner=SpaceKind.HIDDEN,
        read_by=("out",),
    ),
    Role(
        name="map",
        block=BlockKind.UNNAMED,
        stage=1,
        side=None,
        inner=SpaceKind.HIDDEN,
    ),
    Role(
        name="out",
        block=BlockKind.UNNAMED,
        stage=2,
        side=Side.WRITE,
        inner=SpaceKind.HIDDEN,
    ),
    Role(
        name="unembed",
        block=BlockKind.UNEMBEDDING,
        stage=6,
        side=Side.READ,
        inner=SpaceKind.VOCABULARY,
    ),
)

#: The record of each role, by its name.
ROLE_RECORDS: Mapping[str, Role] = {role.name: role for role in _RECORDS}

#: Every role, in the order in which a signal meets them inside a layer.
ROLES = tuple(ROLE_RECORDS)

#: Roles of weights that stand outside the layers.
TABLES = tuple(role.name for role in _RECORDS if role.is_table)

#: What is read by the one role reaches the writing of the others inside a layer. Queries and keys only decide where
#: an output head looks: nothing that they read is written.
PASSES = {role.name: role.read_by for role in _RECORDS if role.read_by}

#: Pairs of roles that compose in a space inside a layer, what writes first: the one after the other reads its writing
#: or is multiplied with it.
COMPOSED = tuple(
    (role.name, other)
    for role in _RECORDS
    for other in (*role.read_by, *([role.multiplied_with] if role.multiplied_with else []))
)

#: Roles whose weights are cut into heads.
HEAD_ROLES = tuple(role.name for role in _RECORDS if role.heads)

#: Those of which every attention head has a slice of its own: it may share its key-value head with others.
QUERY_HEAD_ROLES = tuple(role.name for role in _RECORDS if role.heads is HeadGroup.QUERY)

#: The other projection of a head: what it reads with the one acts through the other.
HEAD_PARTNERS = {
    one: other for pair in COMPOSED if set(pair) <= set(HEAD_ROLES) for one, other in (pair, reversed(pair))
}

#: Pairs of roles whose heads are compared in a stream: those of one role with each other (redundancy), and those
#: that write to it with those of later layers that read from it (composition).
HEAD_PAIRS = (
    *((role, role) for role in HEAD_ROLES),
    *(
        (writer, reader)
        for writer in HEAD_ROLES
        for reader in HEAD_ROLES
        if ROLE_RECORDS[writer].side is Side.WRITE and ROLE_RECORDS[reader].side is Side.READ
    ),
)


def roles_in(block: BlockKind) -> tuple[str, ...]:
    """Names of the roles of one part of the network."""
    return tuple(role.name for role in _RECORDS if role.block is block)


def in_tower(tower: str, name: str) -> str:
    """What a weight, a space or a role is called in a tower: ``encoder.q``; its own name where there is one tower."""
    return f"{tower}.{name}" if tower else name


def bare(role: str) -> str:
    """A role as `ROLES` has it: without its tower, and without the module that tells several of one role apart."""
    return role.rpartition(".")[2].partition(":")[0]


def tower_of(role: str) -> str:
    """The tower of a role, empty where there is one."""
    return role.rpartition(".")[0]


def layers_by_tower(places: Iterable[tuple[str, int | None]]) -> dict[str, int]:
    """Number of layers along each stream, by its tower, from the tower and the layer of every weight."""
    numbers: dict[str, set[int]] = {}
    for tower, layer in places:
        numbers.setdefault(tower, set()).update(() if layer is None else (layer,))
    return {tower: len(there) for tower, there in numbers.items()}


def layers_in_words(counts: Mapping[str, int]) -> str:
    """``3 layers``; where there are several towers ``5 layers (2 in encoder, 3 in decoder)``."""
    total = sum(counts.values())
    told = f"{total} layer{'s' * (total != 1)}"
    parts = ", ".join(f"{count} in {tower}" for tower, count in counts.items())
    return f"{told} ({parts})" if len(counts) > 1 else told


def role_order(role: str) -> tuple[str, int]:
    """Sort key of a role: the roles of one tower together, in the order of `ROLES`."""
    return tower_of(role), ROLES.index(bare(role))


def head_pair_name(first: str, second: str) -> str:
    """How tables call a pair of `HEAD_PAIRS`: QQ, OK ..., encoder.QQ, CROSS_Q-CROSS_Q."""
    joint = "" if len(bare(first)) == len(bare(second)) == 1 else "-"
    pair = f"{bare(first)}{joint}{bare(second)}".upper()
    return in_tower(tower_of(second), pair)


_PAIRS_BY_NAME = {head_pair_name(*pair): pair for pair in HEAD_PAIRS}


def head_pair(name: str) -> tuple[str, str]:
    """The two roles of a pair that `head_pair_name` named."""
    first, second = _PAIRS_BY_NAME[bare(name)]
    return in_tower(tower_of(name), first), in_tower(tower_of(name), second)


def are_of_one_role(name: str) -> bool:
    """Whether a pair that `head_pair_name` named is of two heads of one role."""
    first, second = head_pair(name)
    return first == second
