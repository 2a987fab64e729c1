import numpy as np
import pytest
import torch
from scipy import stats

from flaggeo import load
from flaggeo.alignment import (
    constant_component,
    continuity_by_lag,
    continuity_table,
    gram_cosines,
    gram_matrix,
    participation_ratio,
    trajectory_variance_table,
)
from flaggeo.alignment.depth.continuity_table import LAYER_OBSERVABLES
from flaggeo.alignment.depth.gram_cosine import GRAM_OBSERVABLES
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from tests.builders import CONFIG, chain_of, planted, random_frame, tiny_llama
from tests.flaggeo.alignment.builders import gaussian, spectra_of

NUMBERS = ["abs_cos_1", "sigma2_weighted", "overlap", "best_match", "projection", "block_overlap", "signed_rank_one"]
P_VALUES = ["abs_cos_1_p_value", "abs_cos_1_sign_flip_p_value", "abs_cos_1_mean_matched_p_value"]
TESTED = [
    *P_VALUES,
    "abs_cos_1_sign_flip_mean",
    "abs_cos_1_mean_matched_mean",
    "abs_cos_1_p_value_floor",
    "abs_cos_1_q_value",
]


def test_table_pairs_neighbouring_layers_of_each_role_and_side():
    network = load(tiny_llama(), config=CONFIG)
    table = continuity_table(network.weights, spectra_of(network))
    assert len(table) == 7 * 2 * 2
    assert set(zip(table["layer"], table["next_layer"], strict=True)) == {(0, 1), (1, 2)}
    shared = table[table["shared_space"]]
    assert set(zip(shared["role"], shared["side"], strict=True)) == {
        *((role, "read") for role in ("q", "k", "v", "gate", "up")),
        ("o", "write"),
        ("down", "write"),
    }
    assert set(shared["space"]) == {"stream"}


@pytest.fixture(scope="module")
def random_layers():
    """Continuity of 60 independent weights."""
    return continuity_table(*chain_of([gaussian(20, 30, seed=seed) for seed in range(60)]))


def test_every_number_of_random_weights_stands_at_its_null(random_layers):
    for number in (one.column for one in LAYER_OBSERVABLES):
        for _, rows in random_layers.groupby("side"):
            # Blocks differ in size from pair to pair, and with them the null.
            z = (rows[number] - rows[f"{number}_null_mean"]) / rows[f"{number}_null_sd"]
            assert abs(z.mean()) < 4 / len(rows) ** 0.5, number


def test_effect_sizes_run_from_the_null_to_perfect_alignment(random_layers):
    for number in (one.column for one in LAYER_OBSERVABLES):
        null = random_layers[f"{number}_null_mean"]
        expected = (random_layers[number] - null) / (1 - null)
        np.testing.assert_allclose(random_layers[f"{number}_effect_size"], expected)
    nulls = {"abs_cos_1": ["null", "sign_flip", "mean_matched"], "overlap": ["null", "mean_matched"]}
    for number, names in nulls.items():
        largest = random_layers[[f"{number}_{name}_mean" for name in names]].max(axis=1)
        expected = (random_layers[number] - largest) / (1 - largest)
        np.testing.assert_allclose(random_layers[f"{number}_excess"], expected)


def test_the_table_finds_a_planted_swap():
    values = [5.0, 3.0, 2.0, 1.0]
    matrix, left, right = planted(values, 20, 30, seed=0)
    swapped = (left * torch.tensor(values)) @ right[:, [1, 0, 2, 3]].mT
    read = continuity_table(*chain_of([matrix, swapped])).set_index("side").loc["read"]
    assert read["abs_cos_1"] == pytest.approx(0, abs=1e-9)
    assert (read["best_match"], read["best_match_index"]) == (pytest.approx(1), 2)
    assert (read["projection"], read["overlap"]) == (pytest.approx(1), pytest.approx(1))
    assert read["signed_rank_one"] == pytest.approx(0, abs=1e-9)


def test_gram_cosines_stand_where_they_were_given():
    matrices = [gaussian(20, 30, seed=seed) for seed in range(3)]
    weights, spectra = chain_of(matrices)
    grams = [gram_matrix(matrix, Side.READ) for matrix in matrices]
    found = gram_cosines(grams[1], grams[2])
    table = continuity_table(weights, spectra, {("layers.1.up", Side.READ): found}).set_index(["side", "layer"])
    columns = [column.name for observable in GRAM_OBSERVABLES for column in observable.columns]
    assert table.loc[("read", 1), columns].to_dict() == found
    assert table.drop(("read", 1))[columns].isna().all(axis=None)


def test_a_chain_with_a_zero_weight_has_no_numbers_there():
    table = continuity_table(*chain_of([torch.zeros(4, 6), torch.ones(4, 6)]))
    assert table[[*NUMBERS, "abs_cos_2", "best_match_index", *TESTED]].isna().all(axis=None)
    assert list(table["rank"]) == [0, 0]


def test_weights_of_rank_one_have_no_second_direction():
    table = continuity_table(*chain_of([torch.ones(4, 6), torch.ones(4, 6)]))
    assert table["abs_cos_2"].isna().all()
    assert table[NUMBERS].notna().all(axis=None)


def test_a_subspace_that_fills_the_space_says_nothing():
    table = continuity_table(*chain_of([random_frame(6, 4, seed=seed) for seed in (1, 2)])).set_index("side")
    assert table.loc["read", ["overlap", "projection"]].isna().all()
    assert table.loc["write", ["overlap", "projection"]].notna().all()


@pytest.mark.parametrize("matrices", [[torch.ones(4, 6)], [torch.ones(1, 1)] * 3, []], ids=["one layer", "1x1", "none"])
def test_no_rows_where_there_is_nothing_to_compare(matrices):
    assert continuity_table(*chain_of(matrices)).empty


def lines(count, n=50):
    """Unrelated directions."""
    return [random_frame(n, 1, seed=1000 + seed)[:, 0] for seed in range(count)]


def reading(direction, *, seed):
    """Weight that reads this direction, and writes one of its own."""
    return 5 * random_frame(20, 1, seed=seed) @ direction[None]


def alternating(n):
    """Entries 1 and -1 in turn, as no common mean of a weight gives them."""
    signs = torch.ones(n, dtype=torch.float64)
    signs[1::2] = -1
    return signs


def layer_pairs_of(directions):
    """Rows of the continuity of weights that read these."""
    table = continuity_table(*chain_of([reading(line, seed=seed) for seed, line in enumerate(directions)], rank=1))
    return table[table["side"] == "read"]


def test_unrelated_layer_pairs_have_even_p_values_and_no_discovery():
    rows = layer_pairs_of(lines(150))
    for column in P_VALUES:
        assert stats.kstest(rows[column], "uniform").pvalue > 0.01
    assert rows["abs_cos_1_q_value"].min() > 0.05
    assert (rows["abs_cos_1_p_value_floor"] <= rows[P_VALUES].max(axis=1)).all()
    assert (rows["abs_cos_1_p_value_floor"] < 0.01).all()


def test_a_direction_spread_out_is_found_and_one_on_an_outlier_coordinate_is_not():
    spread, outlier = alternating(50) / 50**0.5, torch.eye(50, dtype=torch.float64)[7]
    [found] = layer_pairs_of([spread, spread]).to_dict("records")
    assert max(found[column] for column in (*P_VALUES, "abs_cos_1_q_value")) < 1e-9
    assert found["abs_cos_1_sign_flip_mean"] == pytest.approx((2 / np.pi / 50) ** 0.5, rel=0.02)
    [explained] = layer_pairs_of([outlier, outlier]).to_dict("records")
    assert explained["abs_cos_1_p_value"] < 1e-9
    assert (explained["abs_cos_1_sign_flip_mean"], explained["abs_cos_1_sign_flip_p_value"]) == (pytest.approx(1), 1)
    assert explained["abs_cos_1_q_value"] == 1
    assert np.isnan(explained["abs_cos_1_excess"])


@pytest.mark.parametrize(("coordinates", "floor"), [(2, 0.5), (5, 2**-4), (9, 2**-8)])
def test_directions_on_few_coordinates_cannot_become_significant_and_the_table_says_so(coordinates, floor):
    """Below 8 coordinates no alignment reaches 0.01, though unrelated directions are never equal."""
    line = torch.zeros(50, dtype=torch.float64)
    line[:coordinates] = alternating(coordinates) * coordinates**-0.5
    [row] = layer_pairs_of([line, line]).to_dict("records")
    assert row["abs_cos_1_p_value"] == pytest.approx(0, abs=1e-12)
    assert row["abs_cos_1_p_value_floor"] == pytest.approx(floor)
    assert row["abs_cos_1_p_value_floor"] == row["abs_cos_1_q_value"]
    assert row["abs_cos_1_sign_flip_p_value"] == pytest.approx(floor)


def test_the_layer_pairs_that_carry_over_are_told_from_those_that_do_not():
    kept, *others = lines(7)
    rows = layer_pairs_of([others[0], others[1], kept, kept, kept, others[2], others[3], others[4]])
    assert (rows["abs_cos_1_q_value"] < 0.01).tolist() == [False, False, True, True, False, False, False]


def test_a_family_is_one_side_of_all_roles_and_has_no_sides_without_a_common_space():
    network = load(tiny_llama(), config=CONFIG)
    table = continuity_table(network.weights, spectra_of(network))
    assert table.loc[~table["shared_space"], "abs_cos_1_q_value"].isna().all()
    assert table[P_VALUES].notna().all(axis=None)
    for _, family in table[table["shared_space"]].groupby("side"):
        expected = stats.false_discovery_control(family[P_VALUES].max(axis=1))
        np.testing.assert_allclose(family["abs_cos_1_q_value"], expected, rtol=1e-12)
        assert family["role"].nunique() > 1


def test_a_zero_weight_has_no_p_values_and_leaves_the_others_theirs():
    matrices = [reading(line, seed=seed) for seed, line in enumerate(lines(2))]
    whole, broken = (
        continuity_table(*chain_of(weights, rank=1)).query("side == 'read'")
        for weights in (matrices, [*matrices, torch.zeros(20, 50)])
    )
    assert broken.iloc[1][TESTED].isna().all()
    assert broken.iloc[0][TESTED].tolist() == whole.iloc[0][TESTED].tolist()


def test_signs_of_the_vectors_do_not_matter_and_a_rotation_moves_the_sign_flips_alone():
    spread = torch.ones(50, dtype=torch.float64) / 50**0.5
    first, second = torch.stack([spread, spread + lines(1)[0]])
    plain, turned = (
        layer_pairs_of([first @ turn, second @ turn / second.norm()]).iloc[0]
        for turn in (torch.eye(50, dtype=torch.float64), random_frame(50, 50, seed=4))
    )
    flipped = layer_pairs_of([first, -second / second.norm()]).iloc[0]
    assert flipped[TESTED].tolist() == pytest.approx(plain[TESTED].tolist())
    assert turned["abs_cos_1_p_value"] == pytest.approx(plain["abs_cos_1_p_value"])
    assert turned["abs_cos_1_sign_flip_mean"] != pytest.approx(plain["abs_cos_1_sign_flip_mean"], rel=1e-3)


@pytest.fixture(scope="module")
def minilm(minilm_folder):
    """Means of MiniLM at rank 8 by role and side, under the names of the published table."""
    network = load(minilm_folder)
    weights = [weight for weight in network.weights if weight.layer is not None and weight.head is None]
    spectra = {w.name: leading_spectrum(w.split(network.checkpoint.read(w.tensor)), 8) for w in weights}
    table = continuity_table(weights, spectra).groupby(["role", "side"])
    measured = table[["abs_cos_1", "best_match", "overlap", "signed_rank_one"]].mean()
    measured["evr"] = trajectory_variance_table(weights, spectra).set_index(["role", "side"])["evr"]
    lags = continuity_by_lag(weights, spectra).query("distant")
    summed = (lags["abs_cos_1"] * lags["pairs"]).groupby([lags["role"], lags["side"]]).sum()
    measured["distant"] = summed / lags.groupby(["role", "side"])["pairs"].sum()
    for role, side in measured.index:
        frames = [spectra[w.name].frame(Side(side)) for w in weights if w.role == role]
        measured.loc[(role, side), "pr"] = np.mean([participation_ratio(frame) / len(frame) for frame in frames])
        measured.loc[(role, side), "const"] = np.mean([constant_component(frame) for frame in frames])
    return measured


@pytest.mark.parametrize(
    ("role", "side", "c", "distant", "best", "overlap", "evr", "pr", "const", "signed"),
    [
        ("q", "read", 0.294, 0.18, 0.58, 0.383, 0.90, 0.184, 0.24, -0.023),
        ("k", "read", 0.247, 0.21, 0.58, 0.604, 0.84, 0.122, 0.09, 0.009),
        ("v", "read", 0.208, 0.06, 0.31, 0.154, 0.76, 0.246, 0.03, 0.000),
        ("up", "read", 0.724, 0.40, 0.72, 0.300, 0.89, 0.232, 0.06, 0.458),
        ("up", "write", 0.611, 0.56, 0.61, 0.063, 0.70, 0.339, 0.77, 0.458),
        ("o", "write", 0.381, 0.12, 0.41, 0.189, 0.81, 0.186, 0.01, -0.003),
        ("down", "read", 0.021, 0.01, 0.04, 0.005, 0.62, 0.051, 0.09, -0.005),
        ("down", "write", 0.574, 0.20, 0.75, 0.355, 0.96, 0.006, 0.03, -0.005),
    ],
)
def test_minilm_measures_what_the_theory_page_does(
    minilm, role, side, c, distant, best, overlap, evr, pr, const, signed
):
    """Measured by an implementation of its own, to two or three digits."""
    row = minilm.loc[(role, side)]
    found = row[["abs_cos_1", "distant", "best_match", "overlap", "evr", "pr", "const", "signed_rank_one"]]
    np.testing.assert_allclose(found.to_numpy(), [c, distant, best, overlap, evr, pr, const, signed], atol=0.01)
