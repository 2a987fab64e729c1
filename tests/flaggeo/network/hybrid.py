"""A small network whose layers differ: attention alone, two experts alone, a dense MLP with attention, a single map."""

import torch

from flaggeo.checkpoint import open_checkpoint
from flaggeo.network import ROLE_RECORDS, Network, Space, SpaceKind, Symmetry, Weight

WIDTH, HIDDEN, HEAD_WIDTH, VOCABULARY = 18, 14, 6, 30
STREAM = Space("stream", SpaceKind.STREAM, WIDTH, Symmetry.ORTHOGONAL)


def _inner(role, layer, head, expert):
    kind = ROLE_RECORDS[role].inner
    if kind is SpaceKind.VOCABULARY:
        return Space("vocabulary", kind, VOCABULARY, Symmetry.TRIVIAL)
    if kind is SpaceKind.HIDDEN:
        place = "" if expert is None else f"experts.{expert}."
        return Space(f"layers.{layer}.{place}hidden", kind, HIDDEN, Symmetry.PERMUTATION, layer)
    place = f"heads.{head}.{kind.value}"
    return Space(f"layers.{layer}.{place}", kind, HEAD_WIDTH, Symmetry.GENERAL_LINEAR, layer)


def _weight(role, layer=None, *, head=None, expert=None):
    inner = _inner(role, layer, head, expert)
    source, target = (inner, STREAM) if ROLE_RECORDS[role].writes_to_stream else (STREAM, inner)
    name = role if layer is None else f"layers.{layer}.{role}"
    name += "" if head is None else f".heads.{head}"
    name += "" if expert is None else f".experts.{expert}"
    return Weight(name, role, layer, head, source, target, name, expert=expert)


def hybrid(*, seed=0):
    """Network with random weights."""
    attention = [(role, {"head": head}) for role in "qkvo" for head in range(2)]
    mlp = [(role, {}) for role in ("gate", "up", "down")]
    experts = [(role, {"expert": expert}) for role in ("expert_up", "expert_down") for expert in range(2)]
    layers = [attention, experts, attention + mlp, [("down", {})], experts, mlp]
    weights = [
        _weight("embed"),
        *(_weight(role, layer, **place) for layer, members in enumerate(layers) for role, place in members),
        _weight("unembed"),
    ]
    generator = torch.Generator().manual_seed(seed)
    tensors = {w.tensor: torch.randn(w.target.dim, w.source.dim, generator=generator) for w in weights}
    return Network("by hand", open_checkpoint(tensors), tuple(weights), (), ())
