"""Norms that have no gains, that only some layers have, or that stand on the stream."""

import pytest
import torch

from flaggeo.checkpoint import open_checkpoint
from flaggeo.network import Symmetry
from flaggeo.network.families.record import Naming, Norm, Piece, Record, Tower
from flaggeo.network.reading import read_network

WIDTH = 6
NORM = "layers.{layer}.norm.weight"


def network_of(norms, *, norm=None, head_norm=None, gains=(), rotary=False, entry_norm=None):
    """Two layers of attention of two heads, read by a record with these norms."""
    pieces = tuple(
        Piece(
            f"layers.{{layer}}.{role}.weight",
            role,
            norm=None if role == "o" else norm,
            head_norm=None if role == "o" else head_norm,
        )
        for role in "qkvo"
    )
    tower = Tower(heads="heads", rotary=rotary, depth="depth", entry_norm=entry_norm)
    record = Record(("ours",), (tower,), Naming(pieces, norms))
    generator = torch.Generator().manual_seed(0)
    stored = {
        f"layers.{layer}.{role}.weight": torch.randn(WIDTH, WIDTH, generator=generator)
        for layer in (0, 1)
        for role in "qkvo"
    }
    stored |= {name: 0.5 + torch.rand(WIDTH, generator=generator) for name in gains}
    config = {"model_type": "ours", "heads": 2, "depth": 2}
    return read_network(open_checkpoint(stored, config), records=[record])


def folded(network, name):
    weight = next(weight for weight in network.weights if weight.name == name)
    return network.matrix(weight, folded=True)


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_a_norm_without_gains_leaves_rotations_and_nothing_to_fold_but_the_mean(kind):
    network = network_of((Norm(kind, kind),), norm=kind)
    assert network.spaces["stream"].symmetry is Symmetry.ORTHOGONAL
    query = next(weight for weight in network.weights if weight.name == "layers.1.q")
    matrix = network.matrix(query)
    expected = matrix - matrix.mean(dim=1, keepdim=True) if kind == "layer" else matrix
    torch.testing.assert_close(folded(network, "layers.1.q"), expected)


@pytest.mark.parametrize(("rotary", "keys"), [(False, Symmetry.ORTHOGONAL), (True, Symmetry.ROTARY_BLOCK)])
def test_norms_without_gains_on_heads_leave_rotations_of_them(rotary, keys):
    network = network_of((Norm("rms", "rms"),), head_norm="rms", rotary=rotary)
    assert network.spaces["layers.0.heads.1.keys"].symmetry is keys
    assert network.spaces["layers.0.heads.1.values"].symmetry is Symmetry.ORTHOGONAL
    plain = network_of((), rotary=rotary)
    assert plain.spaces["layers.0.heads.1.values"].symmetry is Symmetry.GENERAL_LINEAR


def test_a_first_layer_without_a_norm_reads_through_that_of_the_embeddings():
    """As in ModernBERT: what comes out of it never moves along the reciprocals of its gains."""
    norms = (Norm(NORM, "layer"), Norm("entry.weight", "layer", on_stream=True))
    gains = ["layers.1.norm.weight", "entry.weight"]
    network = network_of(norms, norm=NORM, gains=gains, entry_norm="entry.weight")
    entry, own = (network.checkpoint.read(name) for name in reversed(gains))
    first, second = (folded(network, f"layers.{layer}.q") for layer in (0, 1))
    torch.testing.assert_close(first @ (1 / entry), torch.zeros(WIDTH), atol=1e-5, rtol=0)
    query = next(weight for weight in network.weights if weight.name == "layers.1.q")
    expected = network.matrix(query) * own
    torch.testing.assert_close(second, expected - expected.mean(dim=1, keepdim=True))
    moved = torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    moved = entry * (moved - moved.mean())
    before = next(weight for weight in network.weights if weight.name == "layers.0.q")
    torch.testing.assert_close(first @ moved, network.matrix(before) @ moved)


def test_a_norm_that_is_added_to_the_stream_without_a_weight_leaves_permutations():
    norms = (Norm(NORM, "layer"), Norm("layers.{layer}.pooled.weight", "layer", on_stream=True))
    gains = ["layers.0.pooled.weight", "layers.1.pooled.weight"]
    assert network_of(norms, norm=NORM, gains=gains).spaces["stream"].symmetry is Symmetry.PERMUTATION
    assert network_of(norms[:1], norm=NORM).spaces["stream"].symmetry is Symmetry.ORTHOGONAL
