"""Every role that a weight can have, one record a role. Nothing else in the package lists roles.

To add a role, add a record, in the order in which a signal meets the roles inside a layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from .spaces import Side, SpaceKind


class BlockKind(Enum):
    """The parts of a network between which the stream runs."""

    EMBEDDING = "embedding"
    ATTENTION = "attention"
    MLP = "mlp"
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
    reads_through, writes_through : str or None
        The norm before what it reads and the norm behind what it writes, as `Family.norms` calls them.
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
    reads_through: str | None = None
    writes_through: str | None = None
    read_by: tuple[str, ...] = ()
    multiplied_with: str | None = None
    heads: HeadGroup | None = None
    products: str | None = None
    scalable: bool = True

    @property
    def is_table(self) -> bool:
        """Whether it stands outside the layers, between the vocabulary and the stream."""
        return self.inner is SpaceKind.VOCABULARY

    @property
    def writes_to_stream(self) -> bool:
        """Whether what it writes is added to the stream, where a LayerNorm does not see its mean."""
        return self.side is Side.WRITE

    @property
    def concatenation(self) -> str:
        """What the spaces of all its heads side by side are called."""
        return f"mixed {self.inner.value}" if self.writes_to_stream else self.products or self.inner.value


_RECORDS = (
    Role(
        name="embed",
        block=BlockKind.EMBEDDING,
        stage=0,
        side=Side.WRITE,
        inner=SpaceKind.VOCABULARY,
    ),
    Role(
        name="q",
        block=BlockKind.ATTENTION,
        stage=0,
        side=Side.READ,
        inner=SpaceKind.KEYS,
        reads_through="attention",
        writes_through="q",
        multiplied_with="k",
        heads=HeadGroup.QUERY,
        products="queries",
    ),
    Role(
        name="k",
        block=BlockKind.ATTENTION,
        stage=0,
        side=Side.READ,
        inner=SpaceKind.KEYS,
        reads_through="attention",
        writes_through="k",
        heads=HeadGroup.KEY_VALUE,
        products="keys",
    ),
    Role(
        name="v",
        block=BlockKind.ATTENTION,
        stage=0,
        side=Side.READ,
        inner=SpaceKind.VALUES,
        reads_through="attention",
        read_by=("o",),
        heads=HeadGroup.KEY_VALUE,
        products="values",
    ),
    Role(
        name="o",
        block=BlockKind.ATTENTION,
        stage=1,
        side=Side.WRITE,
        inner=SpaceKind.VALUES,
        writes_through="attention output",
        heads=HeadGroup.QUERY,
        products="outputs",
    ),
    Role(
        name="gate",
        block=BlockKind.MLP,
        stage=2,
        side=Side.READ,
        inner=SpaceKind.HIDDEN,
        reads_through="mlp",
        read_by=("down",),
        scalable=False,
    ),
    Role(
        name="up",
        block=BlockKind.MLP,
        stage=2,
        side=Side.READ,
        inner=SpaceKind.HIDDEN,
        reads_through="mlp",
        read_by=("down",),
    ),
    Role(
        name="down",
        block=BlockKind.MLP,
        stage=3,
        side=Side.WRITE,
        inner=SpaceKind.HIDDEN,
        writes_through="mlp output",
    ),
    Role(
        name="unembed",
        block=BlockKind.UNEMBEDDING,
        stage=4,
        side=Side.READ,
        inner=SpaceKind.VOCABULARY,
        reads_through="final",
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

#: Pairs of roles whose heads are compared in the stream: those of one role with each other (redundancy), and those
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


def head_pair_name(first: str, second: str) -> str:
    """How tables call a pair of `HEAD_PAIRS`: QQ, OK ..."""
    return f"{first}{second}".upper()
