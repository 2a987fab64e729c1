import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from flaggeo import load
from flaggeo.alignment import continuity_nulls, layer_chains, norm_profile
from flaggeo.alignment.depth.drawn_nulls import SEEDED_NULLS
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from manifolds import abs_cosine_moments, overlap_moments
from tests.builders import CONFIG, HIDDEN, WIDTH, random_frame, tiny_llama

RANK = 4
ROWS, COLUMNS = HIDDEN, WIDTH


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def nulls_of(matrices, *, draws=6, seed=0):
    """Table of the nulls of a chain of matrices."""
    return all_nulls_of(matrices, draws=draws, seed=seed).table


def all_nulls_of(matrices, *, draws, seed=0):
    """Nulls of a chain of matrices, which stand for its writings into the MLP."""
    network = load(tiny_llama(layers=len(matrices)), config=CONFIG | {"num_hidden_layers": len(matrices)})
    chain = layer_chains(network.weights)["up"]
    spectra = {weight.name: leading_spectrum(matrix, RANK) for weight, matrix in zip(chain, matrices, strict=True)}
    profiles = {
        name: norm_profile(matrix, spectra[name].frame(Side.READ).shape[1])
        for name, matrix in zip(spectra, matrices, strict=True)
    }
    return continuity_nulls(chain, spectra, profiles, draws=draws, seed=seed)


def mean_of(table, side, null, measure="abs_cos_1"):
    return table.set_index(["side", "null", "measure"]).loc[(side, null, measure), "mean"]


def gaussians(layers, seed=0):
    generator = seeded(seed)
    return [torch.randn(ROWS, COLUMNS, generator=generator, dtype=torch.float64) for _ in range(layers)]


def test_gaussian_weights_have_the_haar_null_in_both_seeded_ones():
    draws, layers = 20, 21
    table = nulls_of(gaussians(layers), draws=draws)
    count = draws * (layers - 1)
    for null, (side, dim) in itertools.product(SEEDED_NULLS, (("read", COLUMNS), ("write", ROWS))):
        # Neighbouring pairs of one draw share a layer and are independent all the same; a sign flip has the real
        # frames in common, and as few of them as there are layers.
        effective = count if null == "norm_matched" else layers - 1
        mean, spread = abs_cosine_moments(dim)
        assert abs(mean_of(table, side, null) - mean) < 4 * spread / math.sqrt(effective)
        mean, spread = overlap_moments(dim, RANK, RANK)
        assert abs(mean_of(table, side, null, "overlap") - mean) < 4 * spread / math.sqrt(effective)


def test_an_outlier_channel_is_explained_and_a_shared_direction_is_not():
    loud, shared = gaussians(5), gaussians(5, seed=1)
    direction = random_frame(COLUMNS, 1, seed=3)
    assert float(direction.abs().max()) < 0.5  # on no channel alone
    for layer in range(5):
        loud[layer][7] *= 20  # one row, in a direction of its own in every layer
        shared[layer] += 20 * random_frame(ROWS, 1, seed=10 + layer) @ direction.mT
    of_loud, of_shared = nulls_of(loud), nulls_of(shared)
    for null in SEEDED_NULLS:
        assert mean_of(of_loud, "write", null) > 0.99
        assert mean_of(of_loud, "read", null) < 0.5
        assert mean_of(of_shared, "read", null) < 0.5
    assert mean_of(of_loud, "write", "equalised") < 0.5
    assert mean_of(of_shared, "read", "equalised") > 0.9


def test_seeds_reproduce_bit_for_bit_and_differ_otherwise():
    matrices = gaussians(4)
    first, again, other = (nulls_of(matrices, seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    seeded_rows = first["null"] != "equalised"
    assert (first.loc[seeded_rows, "mean"] != other.loc[seeded_rows, "mean"]).all()
    assert (first.loc[~seeded_rows, "mean"] == other.loc[~seeded_rows, "mean"]).all()


def test_the_bits_do_not_depend_on_the_number_of_threads_nor_on_what_was_drawn_before():
    matrices = gaussians(4)
    before = nulls_of(matrices)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        nulls_of(gaussians(3, seed=9))
        torch.manual_seed(1)
        pd.testing.assert_frame_equal(nulls_of(matrices), before, check_exact=True)
    finally:
        torch.set_num_threads(threads)


def test_equalised_agrees_with_a_brute_force():
    generator = seeded(6)
    loudness = (
        torch.exp(torch.randn(ROWS, 1, generator=generator)),
        torch.exp(torch.randn(COLUMNS, generator=generator)),
    )
    matrices = [matrix * loudness[0] * loudness[1] for matrix in gaussians(3, seed=2)]
    table = nulls_of(matrices)
    rows = [np.linalg.svd((w / w.norm(dim=1, keepdim=True)).numpy())[0][:, :RANK] for w in matrices]
    columns = [np.linalg.svd((w / w.norm(dim=0)).numpy())[2][:RANK].T for w in matrices]
    for side, frames in (("write", rows), ("read", columns)):
        pairs = list(itertools.pairwise(frames))
        cosines = [abs(a[:, 0] @ b[:, 0]) for a, b in pairs]
        overlaps = [np.linalg.norm(a.T @ b) ** 2 / RANK for a, b in pairs]
        assert mean_of(table, side, "equalised") == pytest.approx(np.mean(cosines), abs=1e-5)
        assert mean_of(table, side, "equalised", "overlap") == pytest.approx(np.mean(overlaps), abs=1e-5)


def test_zero_matrices_are_undefined_and_left_out_of_the_mean():
    zero = torch.zeros(ROWS, COLUMNS, dtype=torch.float64)
    assert nulls_of([zero, zero, zero])["mean"].isna().all()
    mixed = nulls_of([*gaussians(2), zero])
    pd.testing.assert_frame_equal(mixed, nulls_of(gaussians(2)), check_exact=True)


def test_surrogates_have_as_many_directions_as_the_weight():
    """A weight of rank one has a line, and so have its surrogates: |cos|^2 is the overlap."""
    lines = [random_frame(ROWS, 1, seed=i) @ random_frame(COLUMNS, 1, seed=50 + i).mT for i in range(2)]
    table = nulls_of(lines, draws=1)
    for side, null in itertools.product(("read", "write"), ("norm_matched", "sign_flip", "equalised")):
        cosine, overlap = (mean_of(table, side, null, measure) for measure in ("abs_cos_1", "overlap"))
        assert overlap == pytest.approx(cosine**2, abs=1e-6)


def test_the_table_has_every_side_null_and_measure_once():
    table = nulls_of(gaussians(3), draws=2)
    assert len(table) == len(table[["side", "null", "measure"]].drop_duplicates()) == 2 * 3 * 2
    assert (table["sd"].isna() == (table["null"] == "equalised")).all()
    assert set(table.loc[table["null"] == "equalised", "draws"]) == {1}


def test_leverages_sum_to_the_rank_and_are_flat_without_outlier_channels():
    leverages = all_nulls_of([matrix.sign() for matrix in gaussians(2)], draws=200).leverages
    assert set(leverages) == {f"layers.{layer}.up.{side}" for layer in (0, 1) for side in ("read", "write")}
    for name, dim in (("layers.0.up.read", COLUMNS), ("layers.1.up.write", ROWS)):
        assert leverages[name].shape == (dim,)
        assert float(leverages[name].sum()) == pytest.approx(RANK, rel=1e-5)
        # A coordinate of a unit vector has a squared mean of 1 / dim and a spread of at most sqrt(2) / dim.
        error = math.sqrt(2 * RANK / 200) / dim
        assert float((leverages[name] - RANK / dim).abs().max()) < 4 * error


def test_leverages_give_the_mean_overlap_of_independent_surrogates():
    """Signs are free, so the mean projector is diagonal and E overlap = sum_i l_i l'_i / r."""
    first, second = gaussians(2)
    for matrix, row in ((first, 5), (second, 5)):
        matrix[row] *= 4
        matrix[:, 3] *= 3
    draws = 400
    nulls = all_nulls_of([first, second], draws=draws)
    for side in ("read", "write"):
        closed = float(nulls.leverages[f"layers.0.up.{side}"] @ nulls.leverages[f"layers.1.up.{side}"]) / RANK
        row = nulls.table.set_index(["side", "null", "measure"]).loc[(side, "norm_matched", "overlap")]
        assert closed == pytest.approx(row["mean"], abs=4 * row["sd"] / math.sqrt(draws))
        assert abs(closed - RANK / (COLUMNS if side == "read" else ROWS)) > 0.05  # and Haar's is another


def test_leverages_of_a_zero_weight_are_zero():
    leverages = all_nulls_of([torch.zeros(ROWS, COLUMNS)] * 2, draws=2).leverages
    assert torch.equal(leverages["layers.0.up.read"], torch.zeros(COLUMNS).to(leverages["layers.0.up.read"]))


def test_a_chain_of_one_layer_has_leverages_and_no_row():
    nulls = all_nulls_of(gaussians(1), draws=2)
    assert nulls.table.empty
    assert len(nulls.leverages) == 2
