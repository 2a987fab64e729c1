from itertools import combinations

import numpy as np
import pytest
import scipy.linalg
import torch

from flaggeo import load
from flaggeo.alignment import SubspacePair, leverages, norm_matched, pair_table
from flaggeo.alignment.pairs.pair_table import PAIR_OBSERVABLES
from flaggeo.alignment.pairs.subspace import subspaces_of
from flaggeo.numerics.spectrum import leading_spectrum
from manifolds import overlap_moments, overlap_p_value, projection_overlap, uniform_frame
from tests.builders import CONFIG, WIDTH, random_frame, tiny_llama
from tests.flaggeo.alignment.builders import spectra_of

P_VALUES = ["overlap_p_value", "overlap_sign_flip_p_value", "overlap_mean_matched_p_value"]


@pytest.fixture(scope="module")
def network():
    return load(tiny_llama(), config=CONFIG)


@pytest.fixture(scope="module")
def spectra(network):
    return spectra_of(network)


@pytest.fixture(scope="module")
def table(network, spectra):
    return pair_table(network.weights, spectra)


def table_of(tensors, rank=4):
    """Pairs of whole projections alone: without a number of heads none are cut."""
    network = load(tensors)
    return pair_table(network.weights, spectra_of(network, rank))


def test_every_overlap_agrees_with_scipy(network, spectra, table):
    """Brute force over all pairs of all spaces; SciPy's angles share no code with the package."""
    frames = {subspace.name: subspace.frame.numpy() for subspace in subspaces_of(network.weights, spectra)}
    sample = table.sample(200, random_state=0)
    for row in sample.itertuples():
        angles = scipy.linalg.subspace_angles(frames[row.source], frames[row.target])
        assert row.overlap == pytest.approx(np.mean(np.cos(angles) ** 2), abs=1e-7)


def test_pairs_are_exactly_those_that_share_a_space_and_follow_the_signal(network, spectra, table):
    expected = set()
    for first, second in combinations(subspaces_of(network.weights, spectra), 2):
        if first.space != second.space:
            continue
        if first.weight.tensor == second.weight.tensor and (first.weight.head is None) != (second.weight.head is None):
            continue
        if first.weight.stage > second.weight.stage:
            first, second = second, first
        kinds = (first.side.value, second.side.value)
        if kinds[0] == kinds[1] or (kinds == ("write", "read") and first.weight.stage < second.weight.stage):
            expected.add(frozenset((first.name, second.name)))
    assert {frozenset(pair) for pair in zip(table["source"], table["target"], strict=True)} == expected
    assert len(table) == len(expected)
    flows = table[table["kind"] == "write-read"]
    assert flows["source"].str.endswith(".write").all()
    assert flows["target"].str.endswith(".read").all()
    assert (table["lag"].dropna() >= 0).all()


def test_null_and_effect_size_stand_beside_each_overlap(table):
    row = table[(table["source"] == "layers.0.q.read") & (table["target"] == "layers.1.q.read")].iloc[0]
    mean, spread = overlap_moments(WIDTH, 4, 4)
    assert (row["overlap_null_mean"], row["overlap_null_sd"]) == (mean, spread)
    assert row["overlap_effect_size"] == pytest.approx((row["overlap"] - mean) / (1 - mean))
    assert row["overlap_z"] == pytest.approx((row["overlap"] - mean) / spread)
    assert row["lag"] == 1
    assert row["overlap_p_value"] == float(overlap_p_value(row["overlap"], WIDTH, 4, 4))


def test_every_measure_of_a_pair_stands_in_its_row(network, spectra, table):
    """Pair by pair, without the tiles that the table is made of."""
    frames = {subspace.name: subspace.frame for subspace in subspaces_of(network.weights, spectra)}
    for row in table.sample(40, random_state=1).to_dict("records"):
        pair = SubspacePair(frames[row["source"]], frames[row["target"]])
        for observable in PAIR_OBSERVABLES:
            assert row[observable.column] == pytest.approx(float(observable.measure(pair)), abs=1e-12)


def test_q_values_are_those_of_all_pairs_of_one_kind(table):
    for _, family in table.groupby("kind"):
        family = family.assign(larger=family[P_VALUES].max(axis="columns"))
        ordered = family.sort_values("larger")
        scaled = ordered["larger"].to_numpy() * len(ordered) / np.arange(1, len(ordered) + 1)
        expected = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
        assert ordered["overlap_q_value"].to_numpy() == pytest.approx(expected)


def test_no_row_has_a_p_value_below_its_floor(table):
    floor = table["overlap_p_value_floor"]
    assert (floor <= table[P_VALUES].max(axis="columns")).all()
    assert floor.between(0, 0.01, inclusive="neither").all()


def test_equal_lines_on_two_coordinates_cannot_become_significant_and_spread_out_ones_do():
    tensors = tiny_llama()
    two, all_alike = torch.zeros(2, WIDTH)
    signs = torch.tensor([1.0, -1.0]).repeat(WIDTH // 2)  # no common mean gives both
    two[:2], all_alike[:] = signs[:2] * 0.5**0.5, signs * WIDTH**-0.5
    for layer in (0, 1):
        tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] = torch.ones(40, 1) * two
        tensors[f"model.layers.{layer}.mlp.gate_proj.weight"] = torch.ones(40, 1) * all_alike
    table = table_of(tensors, rank=1).set_index(["source", "target"])
    coupled, spread = (table.loc[(f"layers.0.{role}.read", f"layers.1.{role}.read")] for role in ("q", "gate"))
    for row in (coupled, spread):
        assert row["overlap"] == pytest.approx(1)
        assert row[P_VALUES].max() == pytest.approx(row["overlap_p_value_floor"], rel=1e-3)
    assert coupled["overlap_p_value"] < 1e-6 < 0.1 < coupled["overlap_p_value_floor"] < coupled["overlap_q_value"]
    assert spread["overlap_p_value_floor"] < 1e-5
    assert spread["overlap_q_value"] < 0.01


def test_the_sign_flip_mean_is_that_of_random_signs():
    """Two subspaces that live on few coordinates: chance is far above Haar, and known without a draw."""
    tensors = tiny_llama()
    loud = torch.ones(WIDTH)
    loud[:3] = 30
    for layer in (0, 1):
        tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] *= loud
    network = load(tensors)
    spectra = spectra_of(network)
    table = pair_table(network.weights, spectra).set_index(["source", "target"])
    row = table.loc["layers.0.q.read", "layers.1.q.read"]
    first, second = (spectra[f"layers.{layer}.q"].right for layer in (0, 1))
    generator = torch.Generator().manual_seed(0)
    signs = 2.0 * torch.randint(0, 2, (4000, WIDTH, 1), generator=generator) - 1
    drawn = projection_overlap(first, signs * second)
    mean = row["overlap_sign_flip_mean"]
    assert mean == pytest.approx(float(drawn.mean()), abs=5 * float(drawn.std()) / 4000**0.5)
    assert row["overlap_sign_flip_sd"] == pytest.approx(float(drawn.std()), rel=0.25)
    assert row["overlap_sign_flip_p_value"] == pytest.approx(float((drawn >= row["overlap"]).float().mean()), abs=0.2)
    assert mean > 3 * row["overlap_null_mean"]
    assert row["overlap_effect_size"] > 0.5
    assert row["overlap_excess"] < 0.2
    largest = max(mean, row["overlap_mean_matched_mean"])
    assert row["overlap_excess"] == pytest.approx((row["overlap"] - largest) / (1 - largest))


def test_the_norm_matched_mean_is_the_product_of_the_mean_leverages(network, spectra):
    """Against the overlaps of pairs of surrogates, of which the product needs none."""
    names = ["layers.0.q", "layers.1.q"]
    weights = [weight for weight in network.weights if weight.name in names]
    generator, draws = torch.Generator().manual_seed(1), 400
    frames = []
    for number in range(2):
        columns = torch.ones(WIDTH)
        columns[: 2 + number] = 6.0
        rows = torch.full((40,), float(columns.norm() / 40**0.5))
        surrogates = [norm_matched(rows, columns, generator) for _ in range(draws)]
        frames.append(torch.stack([torch.linalg.svd(one, full_matrices=False).Vh[:4].mT for one in surrogates]))
    means = {f"{name}.read": leverages(frame).double().mean(dim=0) for name, frame in zip(names, frames, strict=True)}
    table = pair_table(weights, spectra, means).set_index(["source", "target"])
    row = table.loc["layers.0.q.read", "layers.1.q.read"]
    drawn = projection_overlap(*frames).double()
    largest = row["overlap_norm_matched_mean"]
    assert largest == pytest.approx(float(drawn.mean()), abs=5 * float(drawn.std()) / draws**0.5)
    assert largest > row[["overlap_null_mean", "overlap_sign_flip_mean", "overlap_mean_matched_mean"]].max()
    assert row["overlap_excess"] == pytest.approx((row["overlap"] - largest) / (1 - largest))


def test_without_draws_the_norm_matched_mean_is_missing_and_a_wrong_one_is_refused(network, spectra, table):
    assert table["overlap_norm_matched_mean"].isna().all()
    assert not table["overlap_excess"].isna().any()
    with pytest.raises(ValueError, match=r"shape \(24,\) for layers\.0\.q\.read; got \(7,\)"):
        pair_table(network.weights, spectra, {"layers.0.q.read": torch.ones(7)})


def test_a_subspace_of_coordinates_leaves_no_room_for_an_excess():
    """Both read the same four coordinates: random signs give the same overlap, so nothing is shown."""
    tensors = tiny_llama()
    for layer in (0, 1):
        tensors[f"model.layers.{layer}.self_attn.q_proj.weight"][:, 4:] = 0
    table = table_of(tensors).set_index(["source", "target"])
    row = table.loc["layers.0.q.read", "layers.1.q.read"]
    assert (row["overlap"], row["overlap_sign_flip_mean"]) == pytest.approx((1, 1))
    assert np.isnan(row["overlap_excess"])
    assert row["overlap_q_value"] == row["overlap_p_value_floor"] == 1
    assert row["intersection_dimension"] == 4


@pytest.mark.parametrize("folded", [False, True])
def test_basis_independence_needs_both_ends_of_a_weight_and_its_gain(network, spectra, folded):
    """A gate has it, whose hidden units may only be permuted, and what stands behind a gain where that is folded."""
    table = pair_table(network.weights, spectra, folded=folded)
    independent = set(table.loc[table["basis_independent"], ["source", "target"]].to_numpy().ravel())
    always = {f"layers.{layer}.gate.read" for layer in range(3)} | {"embed.write"}  # no gain before these gates
    assert independent == always | ({"unembed.read"} if folded else set())


def test_a_planted_meeting_is_found():
    """What layer 0 writes with `down` is made what layer 2 reads with `q`."""
    tensors = tiny_llama()
    frame = leading_spectrum(tensors["model.layers.0.mlp.down_proj.weight"], 4).left.float()
    tensors["model.layers.2.self_attn.q_proj.weight"] = torch.randn(40, 4) @ frame.mT
    table = table_of(tensors)
    row = table[(table["source"] == "layers.0.down.write") & (table["target"] == "layers.2.q.read")].iloc[0]
    assert row["overlap"] == pytest.approx(1.0, abs=1e-6)
    assert (row["kind"], row["lag"], row["space"]) == ("write-read", 2, "stream")
    assert (row["intersection_dimension"], row["above_edge"]) == (4, 4)
    assert row["geodesic_distance"] == pytest.approx(0, abs=1e-5)
    # In 24 dimensions few signs are free; still no other writing stands out as far.
    assert row["overlap_q_value"] == table.loc[table["kind"] == "write-read", "overlap_q_value"].min() < 0.05
    assert row["overlap_excess"] == pytest.approx(1, abs=1e-5)
    assert row[P_VALUES].max() == pytest.approx(row["overlap_p_value_floor"], rel=1e-4)


def test_a_subspace_that_is_the_whole_space_says_nothing():
    table = table_of(tiny_llama(), rank=WIDTH)
    whole = table[table["space"] == "stream"]
    full = whole[whole["source"].str.contains(r"\.up\.") & whole["target"].str.contains(r"\.gate\.")]
    assert len(full)
    assert full["overlap"].to_numpy() == pytest.approx(1.0)
    assert full[["overlap_effect_size", "overlap_z", "overlap_excess"]].isna().all(axis=None)
    assert (full[["overlap_p_value", "overlap_p_value_floor", "overlap_q_value"]] == 1).all(axis=None)
    assert (full["intersection_dimension"] == WIDTH).all()


def test_a_zero_weight_has_no_subspace():
    tensors = tiny_llama()
    tensors["model.layers.1.mlp.up_proj.weight"].zero_()
    table = table_of(tensors)
    assert not table["source"].str.startswith("layers.1.up.").any()


every_observable = pytest.mark.parametrize(
    "observable", PAIR_OBSERVABLES, ids=[observable.column for observable in PAIR_OBSERVABLES]
)


@every_observable
def test_float32_agrees_with_float64(observable):
    for seed, (r, s) in enumerate([(1, 1), (4, 4), (3, 6)]):
        first, second = random_frame(30, r, seed=10 + seed), random_frame(30, s, seed=20 + seed)
        double = observable.measure(SubspacePair(first, second))
        single = observable.measure(SubspacePair(first.float(), second.float()))
        assert float(single) == pytest.approx(float(double), abs=2e-6)


# Laws of large dimensions, and a root to second order: how far the mean may be off, in standard deviations.
LIMIT_LAWS = {"above_edge": 0.25, "smallest_angle": 0.25, "geodesic_distance": 0.25, "flag_distance": 0.05}


@every_observable
@pytest.mark.parametrize(("n", "r", "s"), [(12, 1, 1), (24, 4, 4), (24, 3, 6)])
def test_the_null_is_what_unrelated_subspaces_give(observable, n, r, s):
    draws, generator = 4000, torch.Generator().manual_seed(n * r * s)
    pair = SubspacePair(
        uniform_frame(n, r, (draws,), generator=generator, dtype=torch.float64),
        uniform_frame(n, s, (draws,), generator=generator, dtype=torch.float64),
    )
    values = observable.measure(pair).double()
    mean, spread = (float(moment) for moment in observable.null.law(pair))
    off = 0 if min(r, s) == 1 and observable.column != "flag_distance" else LIMIT_LAWS.get(observable.column, 0)
    assert abs(float(values.mean()) - mean) <= (off + 5 / draws**0.5) * spread
    assert float(values.std()) == pytest.approx(spread, rel=0.07 + off / 2)


@every_observable
@pytest.mark.parametrize(("n", "r", "s"), [(2, 1, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2), (5, 5, 5)])
def test_measures_and_nulls_are_in_range_in_the_smallest_spaces(observable, n, r, s):
    pair = SubspacePair(random_frame(n, r, seed=30), random_frame(n, s, seed=31))
    least, most = observable.range
    assert least <= float(observable.measure(pair)) <= most + 1e-12
    mean, spread = (float(moment) for moment in observable.null.law(pair))
    if (observable.column, n, r) == ("smallest_angle", 4, 2):
        assert np.isnan(mean)  # at r + s = n the law of the edge is another
    else:
        assert least <= mean <= most + 1e-12
        assert spread >= 0
