"""What is said to be basis-independent is unchanged in another basis of the same network, and the rest moves."""

import numpy as np
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
    return [analyze(one, rank=4, measure="all", fold_norms=True) for one in (network, moved)]


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


# Sizes of a model, and its scales of each channel with the modules that write before them.
SCALED = {
    "dinov2": (
        {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "mlp_ratio": 2, "image_size": 16}
        | {"patch_size": 4},
        {"layer_scale1.lambda1": "attention.o_proj", "layer_scale2.lambda1": "mlp.fc2"},
    ),
    "convnext": (
        {"hidden_sizes": [16, 32], "depths": [2, 3], "num_stages": 2, "image_size": 32},
        {"layer_scale_parameter": "pwconv2"},
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("model_type", SCALED)
def test_a_scale_behind_a_write_makes_no_number_that_is_basis_independent(model_type, folded):
    """Two models of one function: one with random scales, the other with these in its weights."""
    transformers = pytest.importorskip("transformers")
    sizes, modules = SCALED[model_type]
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[model_type](**sizes)
    model = transformers.AutoModel.from_config(config).eval().requires_grad_(requires_grad=False)
    tensors = dict(model.named_parameters())
    scales = {name: name.removesuffix(end) + modules[end] for name in tensors for end in modules if name.endswith(end)}
    image = torch.randn(1, 3, config.image_size, config.image_size)

    def measured():
        analysis = analyze(load(model), rank=6, measure=["continuity", "pairs"], fold_norms=folded)
        return model(image).last_hidden_state, analysis

    for name in scales:
        tensors[name].copy_(2 * torch.rand_like(tensors[name]) + 0.1)
    one, first_analysis = measured()
    for name, module in scales.items():
        tensors[f"{module}.weight"].mul_(tensors[name][:, None])
        tensors[f"{module}.bias"].mul_(tensors[name])
        tensors[name].fill_(1.0)
    other, second_analysis = measured()
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    both = [first_analysis, second_analysis]
    first, second = side_by_side(both, "pairs", ["source", "target"])
    independent = first["basis_independent"]
    assert independent.any() == folded
    for column in ("overlap", "smallest_angle", "flag_score"):
        np.testing.assert_allclose(first[column][independent], second[column][independent], rtol=1e-5, atol=1e-6)
    first, second = side_by_side(both, "continuity", ["role", "side", "layer"])
    independent = first["basis_independent"]
    writes = first.index.get_level_values("role").str.endswith("down") & (
        first.index.get_level_values("side") == "write"
    )
    assert independent[writes].all() == folded
    for column in ("abs_cos_1", "overlap"):
        np.testing.assert_allclose(first[column][independent], second[column][independent], rtol=1e-5, atol=1e-6)
        moved = (first[column] - second[column]).abs()[writes]
        assert (moved.max() < 1e-5) == folded


def encoder(*, shift):
    """A random encoder of four layers, whose reads take a multiple of the reciprocal gains of their LayerNorm too."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(4):
        block = f"encoder.layer.{layer}."
        shapes = {f"{block}attention.self.{name}": (32, 32) for name in ("query", "key", "value")}
        shapes |= {f"{block}attention.output.dense": (32, 32)}
        shapes |= {f"{block}intermediate.dense": (48, 32), f"{block}output.dense": (32, 48)}
        tensors |= {f"{name}.weight": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        for norm in ("attention.output", "output"):
            tensors[f"{block}{norm}.LayerNorm.weight"] = 0.5 + torch.rand(32, generator=generator)
    tensors["embeddings.LayerNorm.weight"] = 0.5 + torch.rand(32, generator=generator)
    for layer in range(4):
        block = f"encoder.layer.{layer}."
        attention = tensors[
            f"encoder.layer.{layer - 1}.output.LayerNorm.weight" if layer else "embeddings.LayerNorm.weight"
        ]
        mlp = tensors[f"{block}attention.output.LayerNorm.weight"]
        reads = dict.fromkeys((f"{block}attention.self.{name}.weight" for name in ("query", "key", "value")), attention)
        for name, gains in (reads | {f"{block}intermediate.dense.weight": mlp}).items():
            tensors[name] += shift * torch.randn(len(tensors[name]), 1, generator=generator) / gains
    return load(tensors, config={"model_type": "bert", "num_attention_heads": 4, "hidden_act": "gelu"})


def test_what_layernorms_do_not_see_makes_no_number_once_norms_are_folded():
    """Random weights with a direction that all reads share and no LayerNorm ever gives."""
    plain, shifted = (encoder(shift=shift) for shift in (0, 3))
    settings = {"rank": 4, "measure": ["continuity", "pairs"]}
    stored = analyze(shifted, **settings)
    reads = stored.continuity["side"].eq("read") & stored.continuity["shared_space"]
    assert stored.continuity["abs_cos_1"][reads].min() > 0.8
    assert not stored.pairs["basis_independent"].any()
    assert not stored.continuity["basis_independent"].any()
    both = [analyze(network, fold_norms=True, **settings) for network in (plain, shifted)]
    first, second = side_by_side(both, "pairs", ["source", "target"])
    assert (first["overlap"] - second["overlap"]).abs().max() < 1e-4
    assert first["basis_independent"].any()
    assert both[1].continuity["abs_cos_1"][reads].mean() < 0.3
    assert both[1].graph.number_of_edges() == 0
    assert not [one for one in both[1].findings if one.kind == "continuity" and one.verdict == "present"]


def test_interfaces_as_stored_depend_on_what_layernorms_do_not_see():
    plain, shifted = (encoder(shift=shift) for shift in (0, 3))
    settings = {"rank": 4, "roles": ["up", "down"], "measure": "interfaces"}
    both = [analyze(network, **settings) for network in (plain, shifted)]
    first, second = side_by_side(both, "interfaces", ["name", "gauge_fixed"])
    assert (first["overlap"] - second["overlap"]).abs().max() > 0.01
    assert not first["basis_independent"].any()
    both = [analyze(network, fold_norms=True, **settings) for network in (plain, shifted)]
    first, second = side_by_side(both, "interfaces", ["name", "gauge_fixed"])
    assert (first["overlap"] - second["overlap"]).abs().max() < 1e-4
    assert first["basis_independent"].all()
