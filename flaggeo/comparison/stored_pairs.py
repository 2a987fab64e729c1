"""Which tensors of two checkpoints are versions of each other, whatever a network makes of them."""

from collections import Counter
from collections.abc import Mapping

from ..checkpoint import Checkpoint

#: Name of a tensor in the first and in the second checkpoint; None where one of them lacks it.
StoredPair = tuple[str | None, str | None]


def stored_pairs(first: Checkpoint, second: Checkpoint, others: Mapping[str, str]) -> list[StoredPair]:
    """Names of every stored tensor of two checkpoints.

    Parameters
    ----------
    first, second : Checkpoint
    others : mapping of str to str
        Tensors of the first and of the second that are known to be one weight, in case their names do not tell.

    Returns
    -------
    pairs : list of StoredPair
        In the order of the first, then what the second has beside. Tensors belong together that have one name, or that
        are stored under another one in one of the two (tied weights), or whose names differ in what comes first
        (``bert.encoder`` and ``encoder``) while their shapes are the same.
    """
    found = {name: name for name in first.headers if name in second.headers}
    found |= {name: second.aliases[name] for name in first.headers if name not in found and name in second.aliases}
    # Two of the second stand for one of the first where they are no longer tied.
    untied = {name: first.aliases[name] for name in second.headers if name not in found and name in first.aliases}
    for known in (_by_ends(first, second), others):
        taken = {*found.values(), *untied}
        found |= {a: b for a, b in known.items() if a not in found and b not in taken}
    taken = {*found.values(), *untied}
    return [
        *((name, found.get(name)) for name in first.headers),
        *((base, name) for name, base in untied.items()),
        *((None, name) for name in second.headers if name not in taken),
    ]


def _by_ends(first: Checkpoint, second: Checkpoint) -> dict[str, str]:
    """Names that are equal but for what one of them has in front, of tensors of one shape."""
    pairs = [
        *((name, end) for name in first.headers if (end := _end(name, second))),
        *((end, name) for name in second.headers if (end := _end(name, first))),
    ]
    fitting = [(a, b) for a, b in pairs if tuple(first.headers[a].shape) == tuple(second.headers[b].shape)]
    times = [Counter(names) for names in zip(*fitting, strict=True)]
    return {a: b for a, b in fitting if times[0][a] == times[1][b] == 1}


def _end(name: str, other: Checkpoint) -> str | None:
    """The longest end of a name, of at least two words, that is a name of the other checkpoint."""
    words = name.split(".")
    ends = (".".join(words[start:]) for start in range(1, len(words) - 1))
    return next((end for end in ends if end in other.headers), None)
