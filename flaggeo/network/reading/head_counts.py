"""How many heads an attention block has, how wide they are, and which rows of a projection belong to which."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..families.record import Cut
from ..roles import ROLE_RECORDS, HeadGroup, Role


@dataclass(frozen=True)
class HeadCounts:
    """Heads of each group in a layer: query heads share the fewer key-value heads."""

    of: Mapping[HeadGroup, int]

    def count(self, role: str) -> int:
        """Heads of a role; 1 where it has none."""
        group = ROLE_RECORDS[role].heads
        return 1 if group is None else self.of[group]

    def group_of(self, role: Role, head: int) -> int:
        """Number of the key-value head with which a head shares its space."""
        assert role.heads is not None
        return head // (self.of[role.heads] // self.of[HeadGroup.KEY_VALUE])


@dataclass(frozen=True)
class Segment:
    """The rows of one role in a tensor that several share: of each block a part.

    Attributes
    ----------
    groups : int
        Number of blocks.
    block : int
        Rows of a block.
    start : int
        First row of the part in its block.
    heads : int
        Heads of the role in a block; 1 where it has none.
    width : int
        Rows of one of them.
    """

    groups: int
    block: int
    start: int
    heads: int
    width: int

    @property
    def rows(self) -> tuple[int, int]:
        """Half-open range in each block."""
        return self.start, self.start + self.heads * self.width

    def of_head(self, head: int) -> tuple[int, int]:
        """Half-open range of the rows of one head."""
        group, place = divmod(head, self.heads)
        first = group * self.block + self.start + place * self.width
        return first, first + self.width


def segment(
    cut: Cut, role: str, rows: int, heads: HeadCounts | None, setting: Callable[[str], int | None]
) -> Segment | None:
    """Find the rows of a role.

    Parameters
    ----------
    cut : Cut
    role : str
        One of `Cut.order`.
    rows : int
        Of the whole tensor.
    heads : HeadCounts or None
        None where the settings do not count the heads.
    setting : callable
        From the name of a setting to its value.

    Returns
    -------
    segment : Segment or None
        None where it takes the number of heads, or a setting that is missing.

    Raises
    ------
    ValueError
        If the rows cannot be divided so; the message says how they should be.
    """
    needs_heads = any(one and ROLE_RECORDS[one].heads for one in cut.order)
    if needs_heads and heads is None:
        return None
    counts = heads or HeadCounts({})
    groups = _groups(cut, rows, counts)
    in_block = [_per_group(counts.count(one) if one in ROLE_RECORDS else groups, groups) for one in cut.order]
    block, rest = divmod(rows, groups)
    if rest:
        raise ValueError(f"a height divisible by {groups} blocks")
    if cut.widths:
        widths = [setting(name) for name in cut.widths]
    else:
        width, rest = divmod(block, sum(in_block))
        if rest:
            raise ValueError(f"a height divisible by {groups * sum(in_block)} heads")
        widths = [width] * len(in_block)
    place = cut.order.index(role)
    known = [width for width in widths if width is not None]
    if len(known) < len(widths):
        return None
    sizes = [count * width for count, width in zip(in_block, known, strict=True)]
    if sum(sizes) != block:
        raise ValueError(f"{groups} blocks of {sum(sizes)} rows")
    return Segment(groups, block, sum(sizes[:place]), in_block[place], known[place])


def _groups(cut: Cut, rows: int, heads: HeadCounts) -> int:
    match cut.groups:
        case "heads":
            return heads.of[HeadGroup.QUERY]
        case "key_value_heads":
            return heads.of[HeadGroup.KEY_VALUE]
        case "rows":
            return max(rows // len(cut.order), 1)
        case number:
            return int(number)


def _per_group(count: int, groups: int) -> int:
    """Heads of a role in a block; a role without heads has a part in each."""
    if count % groups and count != 1:
        raise ValueError(f"heads in {groups} equal groups")
    return max(count // groups, 1)
