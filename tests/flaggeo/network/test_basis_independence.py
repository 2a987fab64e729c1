"""What is said to be basis-independent is unchanged in another basis of the same network, and the rest moves."""

import pytest
import torch

from flaggeo import analyze, load
from flaggeo.network import Symmetry
from flaggeo.network.gauge import change_basis
from tests.builders import CONFIG, WIDTH, tiny_llama

SETTINGS = CONFIG | {"hidden_act": "silu", "tie_word_embeddings": False}


@pytest.fixture(scope="module")
def both():
    """One network in two bases, each measured with its norms folded in."""
    generator = torch.Generator().manual_seed(1)
    tensors = tiny_llama()
    for name in [f"model.layers.{layer}.post_attention_layernorm.weight" for layer in range(3)]:
        tensors[name] = torch.ones(WIDTH)
    for name, tensor in tensors.items():
        if "norm" in name:
            tensors[name] = tensor + 0.3 * torch.rand(WIDTH, generator=generator)
    network = load(tensors, config=SETTINGS)
    moved = load(change_basis(network, seed=2), config=SETTINGS)
    return [analyze(one, rank=4, heads=True, fold_norms=True) for one in (network, moved)]


def side_by_side(both, table, keys):
    first, second = (getattr(one, table).set_index(keys) for one in both)
    return first, second.loc[first.index]


def test_overlaps_that_are_basis_independent_are_equal_and_the_others_move(both):
    first, second = side_by_side(both, "pairs", ["source", "target"])
    independent = first["basis_independent"]
    assert independent.any()
    assert (first["basis_independent"] == second["basis_independent"]).all()
    for column in ("overlap", "smallest_angle", "geodesic_distance", "flag_score", "basis_score"):
        change = (first[column] - second[column]).abs()
        assert change[independent].max() < 2e-4, column  # angles near 0 and singular vectors of float32 weights
        assert change[~independent].median() > 0.01, column


def test_whole_heads_are_basis_independent(both):
    first, second = side_by_side(both, "heads", ["source", "target"])
    assert (first["kernel"] - second["kernel"]).abs().max() < 1e-4
    scores = (first["composition_score"] - second["composition_score"]).abs().dropna()
    assert len(scores)
    assert scores.max() < 1e-4


def test_ranks_are_basis_independent_at_every_interface_and_angles_under_rotations(both):
    first, second = side_by_side(both, "interfaces", ["name", "gauge_fixed"])
    for column in ("first_rank", "second_rank", "product_rank", "polystability_defect"):
        assert (first[column] == second[column]).all()
    bent = ~first["symmetry"].map(lambda words: Symmetry.ORTHOGONAL.contains(Symmetry(words)))
    fixed = first.index.get_level_values("gauge_fixed")
    raw = bent & ~fixed
    assert raw.any()
    for column in ("kempf_ness_gap", "imbalance", "gram_cosine", "rho"):
        assert (first[column] - second[column]).abs()[raw].median() > 1e-3, column
    # Balancing the units undoes their scaling, so that what is measured then is basis-independent.
    balanced = ["kempf_ness_gap", "imbalance", "rho"]
    assert fixed.any()
    assert (first.loc[fixed, balanced] - second.loc[fixed, balanced]).abs().max(axis=None) < 1e-4
