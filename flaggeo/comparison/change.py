"""What took a weight to its other version, read from two checkpoints."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, starmap

import torch
from torch import Tensor

from ..checkpoint import AdaptedCheckpoint, Checkpoint
from ..network import Network, Split, Weight
from ..numerics.memory import keep_no_large_blocks
from ..settings import Settings
from .matching import weights_by_name
from .rounding import EXACT, Rounding, gain_rounding, rounding, rounding_variance

#: Up to this smaller side all singular directions of the version before are found too: a few seconds a weight.
WHOLE_UP_TO = 1024
#: Entries of the tensors whose differences are held side by side, 2 GiB in float32; a larger tensor is measured alone.
DIFFERENCES_AT_ONCE = 2**29

# Entries of a difference that is held as a whole. A larger one is made anew from both tensors whenever it is needed, if
# their rows are those of the larger side, as in an embedding.
_HELD = 2**28
# Entries that are read at a time of weights that are larger, in a multiple of so many rows that no block of quantised
# numbers is cut.
_ENTRIES_READ, _ROWS_READ = 2**22, 256


@dataclass(frozen=True)
class Change:
    """What took a weight to its other version.

    Attributes
    ----------
    difference : Tensor or StoredDifference, shape=[m, n]
        In at least float32.
    norm, base_norm : float
        Frobenius norms of the difference and of the weight before.
    noise : Rounding
        Of the difference.
    """

    difference: "Tensor | StoredDifference"
    norm: float
    base_norm: float
    noise: Rounding

    @staticmethod
    def between(base: Tensor, changed: Tensor, noise: Rounding = EXACT) -> "Change":
        """From one version to the other, shape=[m, n] both."""
        difference = _difference(base, changed)
        return Change(difference, _norm(difference), _norm(base), noise)


@dataclass(frozen=True)
class StoredDifference:
    """The difference of two stored tensors, made from both anew whenever its rows are asked for.

    Attributes
    ----------
    checkpoints : sequence of Checkpoint
        Before and after.
    names : sequence of str
        Of the tensor in each.
    dtype : torch.dtype
        At least float32.
    device : torch.device
    transposed : bool
        Whether the matrix is the transpose of what is stored.
    """

    checkpoints: Sequence[Checkpoint]
    names: Sequence[str]
    dtype: torch.dtype
    device: torch.device
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix, of which each row, or column, is a line of the tensor along its last axis."""
        rows, columns = _shape_of_lines(self.checkpoints[0].headers[self.names[0]].shape)
        return (columns, rows) if self.transposed else (rows, columns)

    @property
    def mT(self) -> "StoredDifference":  # noqa: N802, as that of a tensor
        """The transpose."""
        return replace(self, transposed=not self.transposed)

    def split(self, count: int, /) -> Iterator[Tensor]:
        """All rows of what is stored in order, in blocks of at most so many."""
        assert not self.transposed
        # Nothing that has been read is held while the next rows are read.
        differences = starmap(_difference, _read_together(self.checkpoints, self.names, self.device))
        return chain.from_iterable(map(partial(torch.split, split_size_or_sections=count), differences))


@dataclass(frozen=True)
class WeightPair:
    """A weight in both networks."""

    before: Weight
    after: Weight

    @staticmethod
    def in_both(first: Network, second: Network, names: Iterable[str]) -> "list[WeightPair]":
        """Weights that both networks have, by their names."""
        before, after = weights_by_name(first), weights_by_name(second)
        return [WeightPair(before[name], after[name]) for name in names]

    @property
    def name(self) -> str:
        """Name in both."""
        return self.before.name

    @property
    def tensors(self) -> tuple[str, str]:
        """Names of the tensors that they are cut from."""
        return self.before.tensor, self.after.tensor

    @property
    def are_tensors(self) -> bool:
        """Whether both matrices are tensors as they are stored, but for a transposition of both."""
        plain = all(weight.after is None for weight in (self.before, self.after))
        return plain and self.before.split == self.after.split in (Split(), Split(transposed=True))


def read_changes(
    first: Network, second: Network, pairs: list[WeightPair], settings: Settings, device: torch.device
) -> Iterator[tuple[WeightPair, Change, Tensor | None]]:
    """Changes of weights that are cut from one tensor in each network, read once.

    Parameters
    ----------
    first, second : Network
        Before and after.
    pairs : list of WeightPair
    settings : Settings
    device : torch.device

    Yields
    ------
    pair : WeightPair
    change : Change
        Without what rounding left in the gains that are folded in, see `gain_noise`.
    base : Tensor, shape=[m, n], or None
        The weight before, where it is small, or all of its spectrum is asked for. If it is not, two tensors are never
        held as a whole.
    """
    checkpoints = first.checkpoint, second.checkpoint
    adapted = changed_by_adapter(*checkpoints) is not None
    large = [pair.before.smaller_side > WHOLE_UP_TO and "spectra" not in settings.measure for pair in pairs]
    if len(pairs) == 1 and large[0] and pairs[0].are_tensors and not settings.fold_norms:
        transposed = pairs[0].before.split.transposed
        yield pairs[0], stored_change(checkpoints, pairs[0].tensors, device, transposed=transposed), None
        return
    stored = [
        network.checkpoint.read(name, device=device)
        for network, name in zip((first, second), pairs[0].tensors, strict=True)
    ]
    for pair, is_large in zip(pairs, large, strict=True):
        sides = tuple(zip((first, second), (pair.before, pair.after), stored, strict=True))
        base, changed = (network.matrix(weight, of, folded=settings.fold_norms) for network, weight, of in sides)
        noise = (
            EXACT
            if adapted
            else _noise(*sides[0], settings.fold_norms).and_also(_noise(*sides[1], settings.fold_norms))
        )
        yield pair, Change.between(base, changed, noise), None if is_large else base


def gain_noise(first: Network, second: Network, pair: WeightPair, values: list[Tensor]) -> Rounding:
    """Rounding of the gains that are folded into the two versions of a weight, with these singular values."""
    networks = (first, pair.before), (second, pair.after)
    gains_a, gains_b = (_diagonals(*one) for one in networks)
    # What rounding left in equal gains is in no difference.
    if len(gains_a) == len(gains_b) and all(map(torch.equal, gains_a, gains_b)):
        return EXACT
    noise = EXACT
    for (network, weight), diagonals, of_version in zip(networks, (gains_a, gains_b), values, strict=True):
        for gain, diagonal in zip(weight.folding.gains, diagonals, strict=True):
            dtype = network.checkpoint.headers[gain.tensor].dtype
            variance = rounding_variance(network.checkpoint.read(gain.tensor)[None], dtype)[0]
            noise = noise.and_also(gain_rounding(variance, diagonal, of_version))
    return noise


def changed_by_adapter(first: Checkpoint, second: Checkpoint) -> frozenset[str] | None:
    """Tensors that an adapter changes, exactly so however the base was rounded; None where the second is no adapter."""
    return second.changed if isinstance(second, AdaptedCheckpoint) and second.base is first else None


def transposed_tensors(network: Network) -> frozenset[str]:
    """Tensors that are stored (source, target), and not also used as they are, as a tied embedding is."""
    names: list[set[str]] = [set(), set()]
    for weight in network.weights:
        names[weight.split.transposed].add(weight.tensor)
    return frozenset(names[True] - names[False])


def stored_change(
    checkpoints: Sequence[Checkpoint], names: Sequence[str], device: torch.device, *, transposed: bool = False
) -> Change:
    """The change of a tensor, from a few rows of both versions at a time.

    Parameters
    ----------
    checkpoints : sequence of Checkpoint
        Before and after.
    names : sequence of str
        Of the tensor in each.
    device : torch.device
    transposed : bool, optional
        Whether the matrix is the transpose of what is stored.

    Returns
    -------
    change : Change
        As a matrix of which each row is one along the last axis; a vector is one column.
    """
    headers = [checkpoint.headers[name] for checkpoint, name in zip(checkpoints, names, strict=True)]
    shape = headers[0].shape
    count, width = _shape_of_lines(shape)
    difference: Tensor | StoredDifference | None = None
    # Filled in place: small results between the blocks would leave no room for the next block where the last one was.
    sums: list[tuple[Tensor, Tensor]] = []
    norms, done = (0.0, 0.0), 0
    for blocks in _read_together(checkpoints, names, device):
        change = _difference(*blocks)
        if not sums:
            if count < width or count * width <= _HELD:
                difference = change.new_empty(count, width)
            else:
                keep_no_large_blocks()
                difference = StoredDifference(checkpoints, names, change.dtype, device)
            sums = [(change.new_zeros(count), change.new_zeros(width)) for _ in blocks]
        lines = slice(done, done + len(change))
        done += len(change)
        if isinstance(difference, Tensor):
            difference[lines] = change
        norms = math.hypot(norms[0], _norm(change)), math.hypot(norms[1], _norm(blocks[0]))
        for block, header, (of_rows, of_columns) in zip(blocks, headers, sums, strict=True):
            variance = rounding_variance(block, header.dtype)
            of_rows[lines] = variance.sum(dim=1)
            of_columns += variance.sum(dim=0)
    noise = EXACT
    if changed_by_adapter(*checkpoints) is None:
        of_each = [rounding(*of_version) for of_version in sums]
        noise = of_each[0].and_also(of_each[1])
    assert difference is not None  # a tensor has rows
    return Change(difference.mT if transposed else difference, *norms, noise)


def _read_together(
    checkpoints: Sequence[Checkpoint], names: Sequence[str], device: torch.device
) -> Iterator[list[Tensor]]:
    """The same few rows of both versions, as matrices, from the first to the last."""
    shape = checkpoints[0].headers[names[0]].shape
    step = _rows_at_once(shape)
    for start in range(0, shape[0], step):
        rows = slice(start, min(start + step, shape[0]))
        yield [
            _lines(checkpoint.read(name, rows=rows, device=device))
            for checkpoint, name in zip(checkpoints, names, strict=True)
        ]


def _rows_at_once(shape: Sequence[int]) -> int:
    """Of the first axis, so that few numbers are held and no block of quantised ones is cut."""
    width = math.prod(shape[1:])
    if len(shape) == 2:
        return _ROWS_READ * max(1, _ENTRIES_READ // (_ROWS_READ * width))
    return max(1, _ENTRIES_READ // width)


def _shape_of_lines(shape: Sequence[int]) -> tuple[int, int]:
    """Of a tensor as a matrix, see `_lines`."""
    width = shape[-1] if len(shape) > 1 else 1
    return math.prod(shape) // width, width


def _lines(tensor: Tensor) -> Tensor:
    """As a matrix of which each row is one along the last axis; a vector is one column."""
    return tensor[:, None] if tensor.ndim == 1 else tensor.reshape(-1, tensor.shape[-1])


def _difference(base: Tensor, changed: Tensor) -> Tensor:
    dtype = torch.promote_types(_working(base), _working(changed))
    return changed.to(dtype, copy=True).sub_(base)


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=_working(tensor)))


def _working(tensor: Tensor) -> torch.dtype:
    """The dtype of its numbers, at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _noise(network: Network, weight: Weight, stored: Tensor, folded: bool) -> Rounding:
    """Rounding of the numbers of a weight. Gains stretch it as they do the weight; centring only makes it smaller."""
    deviations = rounding_variance(stored, network.checkpoint.headers[weight.tensor].dtype).sqrt()
    uncentred = replace(weight, folding=replace(weight.folding, centred=False, reads_centred=False))
    variance = network.matrix(uncentred, deviations, folded=folded).square()
    return rounding(variance.sum(dim=1), variance.sum(dim=0))


def _diagonals(network: Network, weight: Weight) -> list[Tensor]:
    return [gain.numbers(network.checkpoint.read) for gain in weight.folding.gains]
