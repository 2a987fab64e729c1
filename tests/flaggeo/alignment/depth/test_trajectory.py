import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flaggeo.alignment.depth.trajectory import (
    Trajectory,
    explained_variance_moments,
    trajectory_table,
    trajectory_variance_table,
)
from manifolds import uniform_frame
from tests.builders import chain_of, random_frame


def uniform_directions(layers, n, seed):
    generator = torch.Generator().manual_seed(seed)
    return uniform_frame(n, 1, (layers,), generator=generator, dtype=torch.float64)[..., 0]


def by_singular_values(directions):
    """Equation 6 of the paper and a PCA, step by step."""
    aligned = [directions[0]]
    for direction in directions[1:]:
        aligned.append(direction * np.sign(direction @ aligned[-1]))
    centred = np.array(aligned) - np.mean(aligned, axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    return u * s, s**2 / (s**2).sum()


def arc(angle, layers, n=30, seed=0):
    """Directions along a great circle."""
    plane = random_frame(n, 2, seed=seed)
    return torch.stack([np.cos(angle * i) * plane[:, 0] + np.sin(angle * i) * plane[:, 1] for i in range(layers)])


@pytest.mark.parametrize(("layers", "n"), [(5, 30), (12, 7), (30, 100)])
def test_against_a_principal_component_analysis_step_by_step(layers, n):
    directions = uniform_directions(layers, n, seed=1)
    positions, ratios = by_singular_values(directions.numpy())
    trajectory = Trajectory(directions)
    np.testing.assert_allclose(trajectory.explained, ratios[:3], atol=1e-12)
    np.testing.assert_allclose(trajectory.components[1][:, :3].abs(), np.abs(positions[:, :3]), atol=1e-10)


def test_an_arc_lies_in_a_plane():
    explained = Trajectory(arc(0.2, 8)).explained
    assert float(explained[0]) > 0.9
    assert float(explained[:2].sum()) == pytest.approx(1)


@settings(max_examples=25)
@given(signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=8, max_size=8))
def test_signs_do_not_matter(signs):
    directions = uniform_directions(8, 20, seed=2)
    moved = directions * torch.tensor(signs, dtype=torch.float64)[:, None]
    torch.testing.assert_close(Trajectory(moved).explained, Trajectory(directions).explained)
    torch.testing.assert_close(Trajectory(moved).components[1][:, :3], Trajectory(directions).components[1][:, :3])


@pytest.mark.parametrize(("layers", "n"), [(8, 20), (12, 6), (6, 384)])
def test_the_null_is_that_of_uniform_directions(layers, n):
    found = [float(Trajectory(uniform_directions(layers, n, seed)).explained.sum()) for seed in range(300)]
    mean, spread = explained_variance_moments(n, layers)
    assert abs(np.mean(found) - mean) < 4 * spread * (1 / 300 + 1 / 400) ** 0.5
    assert np.std(found) == pytest.approx(spread, rel=0.2)


def test_the_null_falls_to_three_components_in_equal_shares():
    limit = 3 / 29
    nulls = [explained_variance_moments(n, 30)[0] for n in (576, 10**4, 10**6)]
    assert nulls == sorted(nulls, reverse=True)
    assert nulls[0] > limit + 0.03
    assert nulls[-1] == pytest.approx(limit, abs=1e-3)


def test_single_precision():
    directions = uniform_directions(10, 50, seed=5)
    single, double = Trajectory(directions.float()).explained, Trajectory(directions).explained
    torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=0)


def test_a_trajectory_that_does_not_move_explains_nothing():
    assert Trajectory(uniform_directions(1, 20, seed=6).expand(5, 20)).explained.isnan().all()


def rank_ones(directions):
    return [torch.outer(torch.ones(4, dtype=torch.float64), direction) for direction in directions]


def test_tables():
    weights, spectra = chain_of(rank_ones(arc(0.2, 6)))
    coordinates, variances = trajectory_table(weights, spectra), trajectory_variance_table(weights, spectra)
    read = variances.set_index("side").loc["read"]
    assert (read["layers"], read["space"], read["shared_space"]) == (6, "stream", True)
    assert read["evr"] == pytest.approx(1)
    assert read["evr_null_mean"] == pytest.approx(explained_variance_moments(30, 6)[0])
    assert read["evr_effect_size"] == pytest.approx(1)
    along = coordinates[coordinates["side"] == "read"]
    assert list(along["layer"]) == list(range(6))
    assert along["pc1"].is_monotonic_increasing or along["pc1"].is_monotonic_decreasing
    written = coordinates[coordinates["side"] == "write"]  # the same direction in every layer
    assert written[["pc1", "pc2", "pc3"]].isna().all(axis=None)
    assert np.isnan(variances.set_index("side").loc["write", "evr"])


@pytest.mark.parametrize(("layers", "defined"), [(3, 2), (4, 3), (5, 3)])
def test_short_trajectories_do_not_read_one(layers, defined):
    variances = trajectory_variance_table(*chain_of(rank_ones(uniform_directions(layers, 30, seed=7))))
    read = variances.set_index("side").loc["read"]
    assert read[["evr_1", "evr_2", "evr_3"]].notna().sum() == defined
    assert np.isnan(read["evr"]) == np.isnan(read["evr_effect_size"]) == (layers < 5)


@pytest.mark.parametrize(
    "matrices",
    [[torch.ones(4, 6)] * 2, [torch.zeros(4, 6)] * 4, [torch.ones(1, 1)] * 4, []],
    ids=["two layers", "zero", "one dimension", "none"],
)
def test_no_rows_where_there_is_no_trajectory(matrices):
    coordinates, variances = trajectory_table(*chain_of(matrices)), trajectory_variance_table(*chain_of(matrices))
    assert (len(coordinates), len(variances)) == (0, 0)


def test_a_zero_weight_is_left_out_of_the_trajectory():
    matrices = rank_ones(arc(0.2, 6))
    matrices[2] = torch.zeros(4, 30)
    coordinates = trajectory_table(*chain_of(matrices))
    assert list(coordinates[coordinates["side"] == "read"]["layer"]) == [0, 1, 3, 4, 5]
