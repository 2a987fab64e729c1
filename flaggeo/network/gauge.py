"""Another basis for every space of a network, with the same function.

A number that changes under this depends on the basis that training happened to choose.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

from ..checkpoint import Checkpoint
from . import ROLE_RECORDS, BlockKind, Network, Space, Symmetry, Weight
from .families.lookup import Structure
from .families.record import Norm, Piece

#: The kinds of spaces whose basis can be changed.
SPACES = ("values", "keys", "hidden", "stream")

# Axes along the stream of tensors that are no weights, by what they are.
_AXES = {"position table": (1,), "segment table": (1,), "norm bias": (0,), "bias": (), "position": (), "buffer": ()}
# Of heads outside the blocks, by their names. The one before a tied unembedding has the stream on both sides.
_FACING = {
    r"(?:predictions\.transform|lm_head)\.dense\.weight$": (0, 1),
    r"(?:predictions\.transform|lm_head)\.dense\.bias$": (0,),
    r"pooler\.dense\.weight$": (1,),
    r"embeddings_project\.\w+$": (0,),
    r"(?:pooler\.dense|lm_head|decoder|predictions)\.bias$|seq_relationship|rotary_emb\.inv_freq$": (),
}
# Settings that say which share of a key positions turn.
_PARTLY_ROTARY = ("partial_rotary_factor", "rotary_pct")
# Random scales lie between the inverse of this and this: condition numbers are at most its square.
_LARGEST_SCALE = 2.0


def change_basis(
    network: Network, *, spaces: Collection[str] = SPACES, seed: int = 0, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """Tensors of a network that computes the same, in random other bases.

    Each space is changed by a random element of its `Symmetry`: value spaces by an invertible map (query heads
    that share a value head share the map), key spaces by an invertible map, or by a rotation and a scaling of
    each plane where positions turn the planes, or by quarter turns where a norm with a gain is between; hidden
    layers by permutations, with signs or scalings where the activation allows them; the stream by a rotation
    once the gains of its norms are folded into the reads, by signed permutations where norms follow the writes,
    and by permutations in BERT, where what the LayerNorms do not see is added to the writes and reads of every layer.

    Parameters
    ----------
    network : Network
        From `flaggeo.load`, with Hugging Face names.
    spaces : collection of str, optional
        Kinds of spaces to change, of `SPACES`; all by default.
    seed : int, optional
        Of the random maps. Those of one kind do not depend on what other kinds are changed.
    device : str or torch.device, optional
        Where the tensors are changed and returned; the maps are the same on each.

    Returns
    -------
    tensors : dict of str to Tensor
        Every tensor of the checkpoint under its own name, in its shape and dtype, for ``load_state_dict``.

    Raises
    ------
    ValueError
        If a symmetry is only assumed, a tensor is there whose part in the network is not known, the number of
        heads is not known, or the gain of the final norm has no weight of its own to be folded into (a tied
        unembedding).
    CheckpointError
        If a tensor is quantised, unreadable or not finite.

    Notes
    -----
    Exact up to rounding: computed in float64 and stored as before, so that outputs agree to about 1e-5 in
    float32, and in half precision no better than its digits. Condition numbers are at most 4. A network without
    an unembedding shows the stream itself, which comes out in the new basis. Buffers of whole numbers, such as
    positions, are left out. Only names as Hugging Face spells them are known, not those of GGUF. See
    docs/measurements.md, "Basis-independent numbers".

    Examples
    --------
    >>> import flaggeo
    >>> block = {f"layers.0.self_attn.{role}_proj.weight": torch.randn(8, 8) for role in "qkvo"}
    >>> block |= {f"layers.0.mlp.{role}_proj.weight": torch.randn(12, 8) for role in ("gate", "up")}
    >>> block["layers.0.mlp.down_proj.weight"] = torch.randn(8, 12)
    >>> network = flaggeo.load(block, config={"model_type": "llama", "num_attention_heads": 2})
    >>> changed = change_basis(network, spaces=["hidden"])
    >>> name = "layers.0.self_attn.q_proj.weight"
    >>> torch.equal(changed[name], block[name])
    True
    """
    kinds = [spaces] if isinstance(spaces, str) else list(spaces)
    unknown = sorted(set(kinds) - set(SPACES))
    if unknown:
        raise ValueError(f"change_basis knows the spaces {', '.join(SPACES)}; got {', '.join(unknown)}.")
    _require_understood(network, kinds)
    checkpoint = network.checkpoint
    stored = {
        name: checkpoint.read(name, device=device) for name in checkpoint.headers if not _is_count(checkpoint, name)
    }
    tensors = {name: tensor.to(torch.float64, copy=True) for name, tensor in stored.items()}
    changes = (_change_values, _change_keys, _change_hidden, _change_stream)
    for number, (kind, change) in enumerate(zip(SPACES, changes, strict=True)):
        if kind in kinds:
            change(network, tensors, torch.Generator().manual_seed(seed * len(SPACES) + number))
    changed = {name: tensor.to(stored[name].dtype) for name, tensor in tensors.items()}
    return changed | {name: changed[first] for name, first in checkpoint.aliases.items()}


def _require_understood(network: Network, kinds: Collection[str]) -> None:
    checkpoint = network.checkpoint
    if checkpoint.naming != "huggingface":
        raise ValueError(f"change_basis expects tensors under Hugging Face names; {checkpoint.location} has others.")
    for space in network.spaces.values():
        if space.assumed and not space.concatenated and space.kind.value in kinds:
            raise ValueError(
                f"change_basis needs to know the symmetry of {space.name}, which the settings of "
                f"{checkpoint.location} do not tell: give model_type and hidden_act as config."
            )
    if {"values", "keys"} & set(kinds) and all(weight.head is None for weight in network.weights):
        raise ValueError("change_basis needs the number of heads: give num_attention_heads as config.")
    if [space.kind.value for space in network.spaces.values()].count("stream") > 1:
        raise ValueError("change_basis expects a network of one stream; this one has several towers.")
    for weight in network.weights:
        if weight.split.groups > 1 or weight.split.unfolded or weight.after is not None:
            raise ValueError(
                f"change_basis expects weights that are whole rows of a tensor; {weight.name} is cut out of "
                f"{weight.tensor!r} in another way."
            )
    config = network.checkpoint.config
    sections = [config, *(section for section in [config.get("rope_parameters")] if isinstance(section, Mapping))]
    shares = {section.get(name) for section in sections for name in _PARTLY_ROTARY}
    if "keys" in kinds and shares - {None, 1}:
        raise ValueError("change_basis expects positions to turn all of a key or nothing of it; here they turn a part.")
    for name, axes in _other_tensors(network).items():
        if axes is None:
            raise ValueError(
                f"change_basis needs to know every tensor's part in the network; {checkpoint.location} has "
                f"{name!r}, whose part is not known."
            )


def _structure(network: Network) -> Structure:
    if network.structure is None:
        raise ValueError("change_basis expects a network that was read by its names; this one is a module's.")
    return network.structure


def _other_tensors(network: Network) -> dict[str, tuple[int, ...] | None]:
    """Axes that lie along the stream, of every tensor that is no weight, bias or gain; None where not known."""
    parts = {placed.tensor: placed.part for placed in _structure(network).names.placed}
    ours = {name for weight in network.weights for name in (weight.tensor, _bias(weight))}
    width = network.spaces["stream"].dim
    others: dict[str, tuple[int, ...] | None] = {}
    for name, header in network.checkpoint.headers.items():
        part = parts.get(name)
        if name in ours or isinstance(part, Norm) or _is_count(network.checkpoint, name):
            continue
        if isinstance(part, Piece):  # a second copy of a tied unembedding, or a table narrower than the stream
            axes: tuple[int, ...] | None = (1,)
        else:
            axes = next((axes for end, axes in _FACING.items() if re.search(end, name)), _AXES.get(part or ""))
        others[name] = axes and tuple(axis for axis in axes if header.shape[axis : axis + 1] == (width,))
    return others


def _is_count(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a tensor holds whole numbers, such as positions, which are no part of an activation."""
    return checkpoint.headers[name].dtype in {"I64", "I32", "I16"}  # narrower ones are quantised


def _bias(weight: Weight) -> str:
    return weight.tensor.removesuffix("weight") + "bias"


def _of_kind(network: Network, kind: str) -> Iterator[tuple[Space, list[Weight]]]:
    """Spaces of one kind, each with the weights that touch it; the stream with whole projections alone."""
    found: dict[Space, list[Weight]] = {}
    for weight in network.weights:
        for space in (weight.source, weight.target):
            if space.kind.value == kind and not space.concatenated and (weight.head is None or kind != "stream"):
                found.setdefault(space, []).append(weight)
    yield from found.items()


def _change_values(network: Network, tensors: dict[str, Tensor], generator: torch.Generator) -> None:
    for space, weights in _of_kind(network, "values"):
        _apply(_random_map(space, generator), space, weights, tensors)


def _change_keys(network: Network, tensors: dict[str, Tensor], generator: torch.Generator) -> None:
    turns: dict[int | None, _Map] = {}
    gains: dict[str, tuple[_Map, int]] = {}
    for space, weights in _of_kind(network, "keys"):
        change = _random_map(space, generator)
        if space.symmetry is Symmetry.SIGNED_PERMUTATION:
            # A norm is between, and positions may turn the planes: only quarter turns commute with both. All heads
            # of a layer take the same, since they may share the gains.
            quarters = torch.randint(4, (space.dim // 2,), generator=generator) * (pi / 2)
            change = turns.setdefault(space.depth, _linear_change(_turned_planes(quarters, torch.ones(1)).round()))
            gains |= {
                weight.folding.written.tensor: (change, space.dim) for weight in weights if weight.folding.written
            }
        for weight in weights:
            # Queries are covectors of the space that keys are vectors of.
            _write(change.covectors if weight.record.multiplied_with else change.vectors, weight, tensors)
    for name, (change, width) in gains.items():
        by_head = tensors[name].view(-1, width).mT
        by_head.copy_(change.gains(by_head))


def _change_hidden(network: Network, tensors: dict[str, Tensor], generator: torch.Generator) -> None:
    for space, weights in _of_kind(network, "hidden"):
        scalable = [weight for weight in weights if weight.record.scalable]
        if scalable == weights:
            _apply(_random_map(space, generator), space, weights, tensors)
        else:
            # Up and down may be scaled, with signs too: what acts on their product with the gate is linear.
            order, still = torch.randperm(space.dim, generator=generator), torch.arange(space.dim)
            scales = _signs(space.dim, generator) * _scales(space.dim, generator)
            _apply(_monomial_change(order, torch.ones(space.dim)), space, weights, tensors)
            _apply(_monomial_change(still, scales), space, scalable, tensors)


def _change_stream(network: Network, tensors: dict[str, Tensor], generator: torch.Generator) -> None:
    structure = _structure(network)
    inside = {piece.head_norm for piece in structure.naming.pieces}
    behind = {
        piece.norm for piece in structure.naming.pieces if ROLE_RECORDS[piece.role].block is BlockKind.UNEMBEDDING
    }
    norms = {
        placed.tensor: placed.part.tensor
        for placed in structure.names.placed
        if isinstance(placed.part, Norm) and placed.part.tensor not in inside
    }
    for space, weights in _of_kind(network, "stream"):
        change = _random_map(space, generator)
        if space.symmetry is Symmetry.ORTHOGONAL:
            _fold_gains(weights, [name for name, template in norms.items() if template in behind], tensors)
        _apply(change, space, weights, tensors)
        for name in (name for name in norms if len(tensors[name]) == space.dim):  # others are beside the stream
            tensors[name].copy_(change.gains(tensors[name][:, None])[:, 0])
        for name, axes in _other_tensors(network).items():
            for axis in axes or ():
                facing = tensors[name].movedim(axis, 0)
                facing.copy_(change.vectors(facing.reshape(space.dim, -1)).reshape(facing.shape))
        _add_unseen(weights, tensors, generator)


def _add_unseen(weights: list[Weight], tensors: dict[str, Tensor], generator: torch.Generator) -> None:
    """Add to what layers write and read as much again as there is, of what the LayerNorms around them do not see."""
    for weight in weights:
        if weight.layer is None:
            continue  # a table may be tied to the other one, which sees it
        block = weight.split(tensors[weight.tensor])
        added = torch.randn(block.shape, generator=generator, dtype=torch.float64).to(block)
        if weight.folding.centred:
            block.add_(added[:1], alpha=float(block.norm() / block.numel() ** 0.5))
        elif weight.folding.reads_centred:
            added -= weight.folding.without_unseen(added, tensors.__getitem__)
            added *= block.norm() / added.norm()
            passed, bias = weight.folding.passed, tensors.get(_bias(weight))
            constant = None if passed is None else tensors.get(passed.tensor.removesuffix("weight") + "bias")
            if constant is not None and bias is None:
                continue  # what it reads of the LayerNorm's bias could not be made up for
            block.add_(added)
            if constant is not None and bias is not None:
                bias.sub_(added @ constant)


def _fold_gains(weights: list[Weight], final: list[str], tensors: dict[str, Tensor]) -> None:
    """Let the weights take over the gains of the norms that they read through, and leave ones."""
    read = [(weight, weight.folding.read) for weight in weights if weight.folding.read is not None]
    for weight, gain in read:
        tensors[weight.tensor].mul_(gain.diagonal(tensors.__getitem__, 0, weight.source.dim))
    for _, gain in read:
        tensors[gain.tensor].fill_(1 - gain.offset)
    for name in final:
        if bool((tensors[name] != tensors[name][0]).any()):
            raise ValueError(
                f"change_basis cannot fold the gain {name!r} of the final norm: no unembedding of its own reads "
                "through it. Where it is tied to the embedding, store it as a tensor of its own first, with "
                "tie_word_embeddings false."
            )


@dataclass(frozen=True)
class _Map:
    """A change of basis g by its action on the rows of a matrix, shape=[dim, any].

    ``vectors`` is g itself, ``covectors`` its dual, the inverse transposed; ``gains`` acts on the diagonals of
    maps of the space, and is exact where g and its inverse keep them diagonal.
    """

    vectors: Callable[[Tensor], Tensor]
    covectors: Callable[[Tensor], Tensor]
    gains: Callable[[Tensor], Tensor]


def _linear_change(matrix: Tensor) -> _Map:
    dual = torch.linalg.inv(matrix).mT
    return _Map(*((lambda x, m=m: m.to(x) @ x) for m in (matrix, dual, matrix * dual)))


def _monomial_change(order: Tensor, scales: Tensor) -> _Map:
    factors = (scales, 1 / scales, torch.ones_like(scales))
    return _Map(*((lambda x, f=f: f[:, None].to(x) * x[order.to(x.device)]) for f in factors))


def _random_map(space: Space, generator: torch.Generator) -> _Map:
    """Random element of the symmetry of a space; scalings are positive."""
    dim = space.dim
    match space.symmetry:
        case Symmetry.GENERAL_LINEAR:
            left, right = _rotation(dim, generator), _rotation(dim, generator)
            return _linear_change(left * _scales(dim, generator) @ right)
        case Symmetry.ORTHOGONAL:
            return _linear_change(_rotation(dim, generator))
        case Symmetry.ROTARY_BLOCK:
            angles = 2 * pi * torch.rand(dim // 2, generator=generator, dtype=torch.float64)
            return _linear_change(_turned_planes(angles, _scales(dim // 2, generator)))
        case Symmetry.SCALED_PERMUTATION:
            return _monomial_change(torch.randperm(dim, generator=generator), _scales(dim, generator))
        case Symmetry.SIGNED_PERMUTATION:
            return _monomial_change(torch.randperm(dim, generator=generator), _signs(dim, generator))
        case Symmetry.PERMUTATION:
            return _monomial_change(torch.randperm(dim, generator=generator), torch.ones(dim))
        case Symmetry.TRIVIAL:
            return _monomial_change(torch.arange(dim), torch.ones(dim))


def _rotation(dim: int, generator: torch.Generator) -> Tensor:
    rotation: Tensor = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64)).Q
    return rotation


def _scales(dim: int, generator: torch.Generator) -> Tensor:
    exponents = 2 * torch.rand(dim, generator=generator, dtype=torch.float64) - 1
    return torch.exp(log(_LARGEST_SCALE) * exponents)


def _signs(dim: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2, (dim,), generator=generator).double().mul(2).sub(1)


def _turned_planes(angles: Tensor, scales: Tensor) -> Tensor:
    """Rotation and scaling of each rotary plane; plane i has the coordinates i and i + dim / 2."""
    cosines, sines = (scales * angles.cos()).diag(), (scales * angles.sin()).diag()
    return torch.cat([torch.cat([cosines, -sines], dim=1), torch.cat([sines, cosines], dim=1)])


def _apply(change: _Map, space: Space, weights: list[Weight], tensors: dict[str, Tensor]) -> None:
    """Change the basis of a space for weights that write vectors to it or read them."""
    for weight in weights:
        if weight.target == space:
            _write(change.vectors, weight, tensors)
        else:
            block = weight.split(tensors[weight.tensor]).mT
            block.copy_(change.covectors(block))


def _write(action: Callable[[Tensor], Tensor], weight: Weight, tensors: dict[str, Tensor]) -> None:
    """Change what a weight writes, its bias included."""
    block = weight.split(tensors[weight.tensor])
    block.copy_(action(block))
    bias = tensors.get(_bias(weight))
    if bias is not None:
        rows = bias[slice(*weight.split.rows) if weight.split.rows else slice(None), None]
        rows.copy_(action(rows))
