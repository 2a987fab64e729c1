import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import false_discovery_control

from flaggeo import load
from flaggeo.alignment import (
    Nulls,
    continuity_nulls,
    head_table,
    layer_chains,
    norm_matched,
    norm_profile,
    pair_table,
    projection_heads,
)
from flaggeo.alignment.chance.seeds import seeded_generator
from flaggeo.alignment.heads.surrogate_heads import HeadCut
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum

WIDTH, HEADS, KEY_VALUE_HEADS, HEAD_WIDTH, RANK = 96, 4, 2, 8, 3
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_VALUE_HEADS,
}
LOUD = 4


def loud_network(loudness, *, changed=None):
    """Attention of two layers, independent but for the first channels of the stream, which are louder."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.ones(WIDTH)
    scales[:LOUD] = loudness
    tensors = {"model.embed_tokens.weight": torch.randn(50, WIDTH, generator=generator)}
    for layer in range(2):
        for role, heads in {"q": HEADS, "k": KEY_VALUE_HEADS, "v": KEY_VALUE_HEADS, "o": HEADS}.items():
            facing = torch.randn(heads * HEAD_WIDTH, WIDTH, generator=generator) * scales
            tensors[f"model.layers.{layer}.self_attn.{role}_proj.weight"] = facing.mT if role == "o" else facing
        for role, shape in {"gate": (10, WIDTH), "up": (10, WIDTH), "down": (WIDTH, 10)}.items():
            tensors[f"model.layers.{layer}.mlp.{role}_proj.weight"] = torch.randn(shape, generator=generator)
    if changed:
        changed(tensors)
    return load({name: tensor.contiguous() for name, tensor in tensors.items()}, config=CONFIG)


def attention(network, roles="qkvo", layers=(0, 1)):
    """Weights of these roles with their matrices and spectra by name."""
    weights = [weight for weight in network.weights if weight.role in roles and weight.layer in layers]
    matrices = {weight.name: network.matrix(weight) for weight in weights}
    return weights, matrices, {name: leading_spectrum(matrix, RANK) for name, matrix in matrices.items()}


def nulls_of(parts, *, draws, with_heads=True):
    """Nulls of these roles, one by one, from the matrices of the network."""
    weights, matrices, spectra = parts
    profiles = {
        name: norm_profile(matrix, spectra[name].frame(Side.READ).shape[1]) for name, matrix in matrices.items()
    }
    heads = {one.projection: one for one in projection_heads(weights, matrices)} if with_heads else None
    return {
        role: continuity_nulls(chain, spectra, profiles, heads, draws=draws, seed=0)
        for role, chain in layer_chains(weights).items()
    }


def joined_nulls(parts, draws):
    return Nulls.joined(list(nulls_of(parts, draws=draws).values()))


def table_of_heads(parts, *, draws):
    """Pairs of heads beside what their surrogates give."""
    weights, matrices, _ = parts
    return head_table(projection_heads(weights, matrices), joined_nulls(parts, draws).whole_head_leverages)


def table_of_pairs(parts, *, draws):
    """The same for leading subspaces."""
    weights, _, spectra = parts
    return pair_table(weights, spectra, joined_nulls(parts, draws).leverages)


def heads_of(projection, side, count):
    """Heads of a projection as what faces the stream, shape=[stream, w], in float64."""
    rows = projection.double() if side is Side.READ else projection.double().mT
    return [rows[head * HEAD_WIDTH : (head + 1) * HEAD_WIDTH].mT for head in range(count)]


@pytest.fixture(scope="module")
def network():
    return loud_network(30.0)


@pytest.fixture(scope="module")
def heads(network):
    return table_of_heads(attention(network), draws=20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(("heads", "width", "dim"), [(3, 6, 20), (2, 1, 5), (2, 7, 7), (2, 9, 5)])
def test_leverages_are_those_of_the_singular_vectors(heads, width, dim, side, dtype):
    generator = torch.Generator().manual_seed(heads)
    facing = torch.randn(heads * width, dim, generator=generator, dtype=dtype) * torch.linspace(
        0.3, 3, dim, dtype=dtype
    )
    smaller = min(width, dim)
    ranks = torch.tensor([[min(2, smaller), smaller]] * heads)
    cut = HeadCut([str(head) for head in range(heads)], side, ranks)
    stream, inner = cut.leverages(facing if side is Side.READ else facing.mT)
    assert (stream.dtype, inner.dtype) == (dtype, dtype)
    for head, rows in enumerate(facing.double().unflatten(0, (heads, width))):
        left, _, right = torch.linalg.svd(rows, full_matrices=False)
        for place, rank in enumerate(ranks[head].tolist()):
            expected = right[:rank].square().sum(dim=0), left[:, :rank].square().sum(dim=1)
            for found, wanted in zip((stream, inner), expected, strict=True):
                torch.testing.assert_close(found[head, place].double(), wanted, rtol=0, atol=2e-5)


def test_a_head_whose_dimensions_differ_a_thousandfold_is_resolved_in_float64():
    """float32 alone would leave out all but one direction of the first head, and half of a dimension elsewhere."""
    facing = torch.randn(2 * 4, 12, generator=torch.Generator().manual_seed(0))
    facing[0] *= 3000
    stream, _ = HeadCut(["0", "1"], Side.READ, torch.tensor([[1, 4]] * 2)).leverages(facing)
    assert stream.dtype == torch.float32
    frame = torch.linalg.qr(facing[:4].double().mT).Q
    torch.testing.assert_close(stream[0, 1].double(), frame.square().sum(dim=1), rtol=0, atol=1e-6)


def test_zero_heads_and_heads_of_lower_rank_have_the_leverages_that_they_have():
    facing = torch.randn(3 * 4, 12, generator=torch.Generator().manual_seed(0))
    facing[:4] = 0
    facing[5:8] = facing[4]
    cut = HeadCut(["0", "1", "2"], Side.READ, torch.tensor([[2, 4], [2, 4], [0, 0]]))
    stream, inner = cut.leverages(facing)
    for found in (stream, inner):
        torch.testing.assert_close(found.sum(dim=-1), torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    line = facing[4].square() / facing[4].square().sum()
    torch.testing.assert_close(stream[1], line.expand(2, -1))


@pytest.mark.parametrize(("role", "count"), [("q", HEADS), ("k", KEY_VALUE_HEADS), ("o", HEADS)])
def test_heads_are_cut_from_the_surrogates_of_their_projection(network, role, count):
    """The same draws, by SVD: rows of queries and keys, columns of outputs."""
    draws, side = 3, Side.WRITE if role == "o" else Side.READ
    nulls = nulls_of(attention(network, role), draws=draws)[role]
    name = f"layers.1.{role}"
    (weight,) = (one for one in network.weights if one.name == name)
    profile = norm_profile(network.matrix(weight), RANK)
    surrogates = [
        norm_matched(
            profile.row_norms,
            profile.column_norms,
            seeded_generator(0, f"margin matched {name} {draw}", torch.device("cpu")),
        )
        for draw in range(draws)
    ]
    cut = [heads_of(surrogate, side, count) for surrogate in surrogates]
    for head in range(count):
        frames = [torch.linalg.svd(of_draw[head], full_matrices=False) for of_draw in cut]
        whole, leading, inner = (
            torch.stack([part.square().sum(dim=1) for part in parts]).mean(dim=0)
            for parts in (
                [left for left, _, _ in frames],
                [left[:, :RANK] for left, _, _ in frames],
                [right.mT[:, :RANK] for _, _, right in frames],
            )
        )
        subspace = f"{name}.heads.{head}.{side.value}"
        for found, expected in (
            (nulls.whole_head_leverages[subspace], whole),
            (nulls.leverages[subspace], leading),
            (nulls.leverages[f"{name}.heads.{head}.{side.other.value}"], inner),
        ):
            torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_heads_take_no_draws_of_their_own(network):
    for role, nulls in nulls_of(attention(network), draws=2).items():
        without = nulls_of(attention(network, role), draws=2, with_heads=False)[role]
        pd.testing.assert_frame_equal(nulls.table, without.table, check_exact=True)
        assert not without.whole_head_leverages
        assert set(without.leverages) == {f"layers.{layer}.{role}.{side.value}" for layer in (0, 1) for side in Side}
        for name, found in without.leverages.items():
            assert torch.equal(nulls.leverages[name], found)


@pytest.mark.parametrize(
    ("first", "second"), [("0.o.heads.1.write", "1.k.heads.0.read"), ("0.q.heads.0.read", "1.q.heads.3.read")]
)
def test_the_norm_matched_mean_is_that_of_independent_surrogates(network, first, second):
    """Against the kernels and the leading overlaps themselves, of pairs of surrogates drawn here."""
    brute, draws, places = 300, 80, []
    for subspace in (first, second):
        layer, role, _, head, side = subspace.split(".")
        (weight,) = (one for one in network.weights if one.name == f"layers.{layer}.{role}")
        count = KEY_VALUE_HEADS if role == "k" else HEADS
        places.append((norm_profile(network.matrix(weight), 0), Side(side), count, int(head)))
    generator = torch.Generator().manual_seed(1)
    kernels, overlaps = [], []
    for _ in range(brute):
        frames = []
        for profile, side, count, head in places:
            surrogate = norm_matched(profile.row_norms, profile.column_norms, generator)
            frames.append(torch.linalg.svd(heads_of(surrogate, side, count)[head], full_matrices=False).U)
        kernels.append(float((frames[0].mT @ frames[1]).square().sum()))
        overlaps.append(float((frames[0][:, :RANK].mT @ frames[1][:, :RANK]).square().sum()) / RANK)
    parts = attention(network, {first.split(".")[1], second.split(".")[1]})
    pairs, heads = table_of_pairs(parts, draws=draws), table_of_heads(parts, draws=draws)
    for table, measured in ((heads, np.array(kernels) / HEAD_WIDTH), (pairs, overlaps)):
        row = table.set_index(["source", "target"]).loc[(f"layers.{first}", f"layers.{second}")]
        # Both sides are drawn; leverages spread less than overlaps do.
        error = 4 * np.std(measured) * (brute**-0.5 + draws**-0.5)
        assert row["overlap_norm_matched_mean"] == pytest.approx(np.mean(measured), abs=error)
        assert row["overlap_norm_matched_mean"] > row["overlap_null_mean"] + 3 * error


def test_siblings_of_one_surrogate_overlap_by_their_leverages_which_hardly_depend_on_each_other():
    """The overlap is the inner product of both leverages in each draw; the product of means is a little larger."""
    heads, width, dim, draws = 3, 16, 60, 300
    generator = torch.Generator().manual_seed(2)
    columns = torch.ones(dim)
    columns[:3] = 5
    rows = torch.full((heads * width,), float(columns.norm()) / math.sqrt(heads * width))
    kernels, products, means = [], [], torch.zeros(heads, dim)
    for _ in range(draws):
        frames = torch.linalg.qr(norm_matched(rows, columns, generator).unflatten(0, (heads, width)).mT).Q
        leverages = frames.square().sum(dim=-1)
        kernels.append(float((frames[0].mT @ frames[1]).square().sum()))
        products.append(float(leverages[0] @ leverages[1]))
        means += leverages / draws
    surplus = np.subtract(kernels, products)
    assert abs(surplus.mean()) < 4 * surplus.std() / math.sqrt(draws)
    assert 1 < float(means[0] @ means[1]) / np.mean(products) < 1.03
    assert np.mean(products) > 1.2 * width**2 / dim


@pytest.mark.parametrize("kind", ["QQ", "OO", "OK"])
def test_outlier_channels_are_no_redundancy(heads, kind):
    """All heads share 4 of 8 dimensions, far beyond unrelated ones, and nothing but the outlier channels."""
    heads = heads[heads["kind"] == kind]
    assert (heads["kernel"] > 3.5).all()
    assert (heads["overlap_effect_size"] > 0.4).all()
    assert (false_discovery_control(heads["overlap_p_value"]) < 1e-9).all()
    assert (heads["overlap_q_value"] > 0.05).all()
    assert heads["overlap_excess"].abs().max() < 0.1
    assert heads["overlap_excess"].mean() == pytest.approx(0, abs=0.04)


def test_alignment_of_quiet_channels_is_found_among_outliers():
    def copy(tensors):
        earlier, later = (tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] for layer in (0, 1))
        later[HEAD_WIDTH : 2 * HEAD_WIDTH] = earlier[:HEAD_WIDTH]

    heads = table_of_heads(attention(loud_network(30.0, changed=copy)), draws=5)
    copied = (heads["source"] == "layers.0.q.heads.0.read") & (heads["target"] == "layers.1.q.heads.1.read")
    row = heads[copied].iloc[0]
    assert row["overlap_q_value"] < 1e-3
    assert row["overlap_excess"] == pytest.approx(1, abs=1e-5)
    assert (heads.loc[~copied & (heads["kind"] == "QQ"), "overlap_q_value"] > 0.05).all()


def test_excess_counts_from_the_largest_null_and_heads_of_pairs_have_all_of_them(network, heads):
    for table in (heads, table_of_pairs(attention(network), draws=2)):
        nulls = table[[f"overlap_{name}_mean" for name in ("null", "sign_flip", "mean_matched", "norm_matched")]]
        assert nulls.notna().all(axis=None)
        largest, room = nulls.max(axis="columns"), table["overlap_excess"].notna()
        assert room.mean() > 0.9
        expected = ((table["overlap"] - largest) / (1 - largest))[room]
        np.testing.assert_allclose(table["overlap_excess"][room], expected, rtol=1e-6, atol=1e-9)


def test_a_role_alone_has_the_nulls_that_it_has_among_others(network, heads):
    alone = table_of_heads(attention(network, "k", layers=(1,)), draws=20)
    together = heads[(heads["kind"] == "KK") & (heads["source_layer"] == 1)]
    assert len(alone) == 1
    expected = together["overlap_norm_matched_mean"].to_numpy()
    assert alone["overlap_norm_matched_mean"].to_numpy() == pytest.approx(expected, rel=1e-6)


def test_zero_heads_have_no_null():
    def silence(tensors):
        tensors["model.layers.0.self_attn.q_proj.weight"][:HEAD_WIDTH] = 0
        tensors["model.layers.1.self_attn.o_proj.weight"].zero_()

    heads = table_of_heads(attention(loud_network(1.0, changed=silence)), draws=2)
    zero = heads[["source", "target"]].isin(["layers.0.q.heads.0.read"]).any(axis=1) | (
        heads["source"].str.startswith("layers.1.o") | heads["target"].str.startswith("layers.1.o")
    )
    names = ("sign_flip_sd", "sign_flip_p_value", "norm_matched_mean", "excess", "p_value_floor", "q_value")
    columns = [f"overlap_{name}" for name in names]
    assert heads.loc[zero, columns].isna().all(axis=None)
    assert heads.loc[~zero, columns].notna().all(axis=None)
