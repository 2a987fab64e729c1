import itertools

import numpy as np
import pytest
import torch

from flaggeo import load
from flaggeo.alignment import closed_nulls, layer_chains, projection_heads
from flaggeo.alignment.chance.norm_matched import norm_matched
from flaggeo.alignment.chance.sign_flip import leverages, sign_flips_of_lines
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_frames, leading_spectrum
from tests.builders import CONFIG, tiny_llama

LAYERS, RANK = 4, 3


@pytest.fixture(scope="module")
def network():
    """Rows of o and columns of q with a few loud channels."""
    tensors = tiny_llama(layers=LAYERS)
    for name, tensor in tensors.items():
        if name.endswith("o_proj.weight"):
            tensor[5] *= 4
        if name.endswith("q_proj.weight"):
            tensor[:, 2] *= 3
    return load(tensors, config=CONFIG | {"num_hidden_layers": LAYERS})


@pytest.fixture(scope="module")
def matrices(network):
    return {weight.name: network.matrix(weight) for weight in network.weights}


@pytest.fixture(scope="module")
def spectra(matrices):
    return {name: leading_spectrum(matrix, RANK) for name, matrix in matrices.items()}


@pytest.fixture(scope="module")
def nulls(network, matrices, spectra):
    return closed_nulls(network.weights, spectra, projection_heads(network.weights, matrices))


def surrogates(matrix, draws):
    rows, columns = (torch.linalg.vector_norm(matrix, dim=dim) for dim in (1, 0))
    return [norm_matched(rows, columns, torch.Generator().manual_seed(seed)) for seed in range(draws)]


def test_every_subspace_has_leverages_that_sum_to_its_rank(network, spectra, nulls):
    names = {f"{weight.name}.{side.value}" for weight in network.weights for side in weight.sides}
    assert nulls.leverages.keys() == names
    for weight in network.weights:
        for side in weight.sides:
            found = nulls.leverages[f"{weight.name}.{side.value}"]
            assert found.shape == (weight.space(side).dim,)
            assert float(found.sum()) == pytest.approx(spectra[weight.name].frame(side).shape[1], rel=0.02)


def test_the_rows_are_those_of_the_continuity_of_all_roles(network, nulls):
    assert len(nulls.table) == 2 * 2 * 2 * len(layer_chains(network.weights))
    assert set(nulls.table["draws"]) == {0}
    assert (nulls.table["mean"] == nulls.table["closed_form"]).all()
    is_flipped_overlap = (nulls.table["null"] == "sign_flip") & (nulls.table["measure"] == "overlap")
    assert (nulls.table["sd"].isna() == is_flipped_overlap).all()


def test_sign_flips_are_those_of_the_measured_frames(network, spectra, nulls):
    means = nulls.table.set_index(["role", "side", "null", "measure"])["mean"]
    chain = [spectra[weight.name].frame(Side.WRITE) for weight in layer_chains(network.weights)["o"]]
    pairs = list(itertools.pairwise(chain))
    cosines = [float(sign_flips_of_lines(first[:, 0], second[:, 0])[0]) for first, second in pairs]
    overlaps = [float(leverages(first) @ leverages(second)) / RANK for first, second in pairs]
    assert means["o", "write", "sign_flip", "abs_cos_1"] == pytest.approx(np.mean(cosines))
    assert means["o", "write", "sign_flip", "overlap"] == pytest.approx(np.mean(overlaps))


@pytest.mark.parametrize(("role", "side"), [("o", Side.WRITE), ("q", Side.READ), ("up", Side.WRITE)])
def test_norm_matched_means_are_those_of_draws(network, matrices, nulls, role, side):
    means = nulls.table.set_index(["role", "side", "null", "measure"])["mean"]
    chain = layer_chains(network.weights)[role]
    place = 0 if side is Side.READ else 1
    frames = [
        torch.stack([leading_frames(one, RANK)[place] for one in surrogates(matrices[weight.name], 60)])
        for weight in chain
    ]
    # Each surrogate with others of the next layer: those of one seed have the same numbers in them.
    products = [torch.einsum("ank,bnl->abkl", first[:30], second[30:]) for first, second in itertools.pairwise(frames)]
    cosine = torch.stack([product[..., 0, 0].abs().mean() for product in products]).mean()
    overlap = torch.stack([product.square().sum(dim=(2, 3)).mean() / RANK for product in products]).mean()
    assert means[role, side.value, "norm_matched", "abs_cos_1"] == pytest.approx(float(cosine), abs=0.05)
    assert means[role, side.value, "norm_matched", "overlap"] == pytest.approx(float(overlap), abs=0.03)


def test_a_head_has_its_block_of_the_surrogates_of_its_projection(network, matrices, nulls):
    query = next(weight for weight in network.weights if weight.name == "layers.1.q")
    [*heads] = [weight for weight in network.weights if weight.name.startswith("layers.1.q.heads.")]
    width = query.target.dim // len(heads)
    for number, head in enumerate(heads):
        blocks = [one[number * width : (number + 1) * width] for one in surrogates(matrices["layers.1.q"], 200)]
        drawn = torch.stack([leverages(torch.linalg.qr(block.mT).Q) for block in blocks]).mean(dim=0).double()
        found = nulls.whole_head_leverages[f"{head.name}.read"]
        assert float((found - drawn).abs().mean()) < 0.05
        assert float(found[2]) == float(found.max()) == pytest.approx(float(drawn[2]), abs=0.1)


def test_a_zero_weight_has_no_direction(network, spectra):
    nothing = leading_spectrum(torch.zeros_like(spectra["layers.1.o"].left @ spectra["layers.1.o"].right.mT), RANK)
    found = closed_nulls(network.weights, dict(spectra) | {"layers.1.o": nothing})
    assert not found.leverages["layers.1.o.write"].any()
    assert found.table["mean"].notna().all()
