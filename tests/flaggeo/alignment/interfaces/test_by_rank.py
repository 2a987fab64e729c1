import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flaggeo import load
from flaggeo.alignment import interface_pair, interface_rows, interface_table, interfaces_by_rank
from flaggeo.alignment.interfaces.by_rank import interface_curve
from flaggeo.alignment.interfaces.leading_directions import INTERFACE_OVERLAP, LEADING_OBSERVABLES
from manifolds import overlap_moments, projection_overlap
from tests.builders import CONFIG, HEAD_WIDTH, tiny_llama
from tests.flaggeo.alignment.builders import gaussian, gaussian_pair, matrices, moved, rotation

NUMBERS = ("overlap", "window_rho", "window_contrast")


def curve(first, second, rank=6):
    return interface_curve(interface_pair(first, second, rank))


def written(axes, *, seed):
    """A weight of 9 inputs that writes along these orthonormal columns, the first the strongest."""
    values = torch.arange(axes.shape[1], 0, -1, dtype=torch.float64)
    return axes * values @ rotation(9, seed=seed)[: axes.shape[1]]


def read(axes, *, seed):
    """A weight of 9 outputs that reads along them."""
    return written(axes, seed=seed).mT


def rows_of(tensors, *, rank=4):
    network = load(tensors, config=CONFIG)
    return interface_rows(network.weights, matrices(network), rank=rank, draws=0, seed=0)


@pytest.fixture(scope="module")
def rows():
    return rows_of(tiny_llama())


@pytest.mark.parametrize("shared", [1, 3])
def test_directions_that_are_shared_and_nothing_else(shared):
    """The leading ones, in another order in each: 1 where k takes in all of them, and from there on shared / k."""
    axes = rotation(16, seed=1)
    own = axes[:, shared:6], axes[:, 6 : 12 - shared]
    turned = axes[:, :shared] @ rotation(shared, seed=2)
    found = curve(
        written(torch.cat([turned, own[0]], dim=1), seed=3),
        read(torch.cat([axes[:, :shared], own[1]], dim=1), seed=4),
    )
    overlap = found["overlap"]
    assert float(overlap[shared - 1]) == pytest.approx(1)
    assert overlap[shared:].tolist() == pytest.approx([shared / k for k in range(shared + 1, 7)])
    assert (overlap[: shared - 1] < 0.99).all()
    # Where a principal angle is right, the window is open.
    assert np.isnan(found["window_rho"][shared:]).all()


def test_weights_with_all_directions_in_common_have_one_at_every_k():
    axes = rotation(16, seed=5)[:, :6]
    found = curve(written(axes, seed=6), read(axes, seed=7))
    assert found["overlap"].tolist() == pytest.approx([1] * 6)
    assert found["window_rho"][1:].tolist() == pytest.approx([0] * 5, abs=1e-9)


def test_a_known_angle_between_the_first_directions():
    """Both live in one plane with bases at angle t: cos^2 t at k = 1, then the whole plane at k = 2."""
    angle = 0.7
    plane = rotation(8, seed=8)[:, :2]
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    found = curve(written(plane, seed=9), read(plane @ turn, seed=10))
    assert found["overlap"][:2].tolist() == pytest.approx([math.cos(angle) ** 2, 1])
    assert math.isnan(found["window_rho"][0])
    # |[A0, B0]| = sqrt(2) |A0| |B0| sin 2t in a plane, and chance is 1 for k = 2.
    assert float(found["window_rho"][1]) == pytest.approx(math.sqrt(2) * math.sin(2 * angle))


def test_every_point_is_the_pair_compared_at_that_rank():
    """In a batch of which one weight has rank 2, and which meets one second weight."""
    first, second = gaussian(3, 12, 7, seed=11), gaussian(8, 12, seed=12)
    first[1] = first[1, :, :2] @ gaussian(2, 7, seed=13)
    batch = curve(first, second)
    for place, one in enumerate(first):
        alone = curve(one, second)
        kept = 2 if place == 1 else 6
        for name, values in batch.items():
            np.testing.assert_allclose(values[:kept, place], alone[name][:kept], rtol=1e-9, atol=1e-12)
        for k in range(1, kept + 1):
            pair = interface_pair(one, second, k).leading
            for observable in LEADING_OBSERVABLES:
                value = batch[observable.column][k - 1, place]
                np.testing.assert_allclose(value, observable.measure(pair), rtol=1e-9, atol=1e-12)
            frames = torch.linalg.svd(one).U[:, :k], torch.linalg.svd(second).Vh[:k].mT
            assert float(batch["overlap"][k - 1, place]) == pytest.approx(float(projection_overlap(*frames)))


def test_chance_is_exact_at_every_k_and_the_whole_space_leaves_none():
    found = curve(*gaussian_pair(5, 7, 6, seed=14))
    expected = [overlap_moments(5, k, k) for k in range(1, 6)]
    assert list(zip(found["overlap_null_mean"], found["overlap_null_sd"], strict=True)) == expected
    assert float(found["overlap"][-1]) == pytest.approx(1)
    assert np.isnan(found["overlap_effect_size"]).tolist() == [False] * 4 + [True]


def test_unrelated_weights_lie_at_chance_at_every_k():
    count = 2000
    found = curve(gaussian(count, 20, 9, seed=15), gaussian(count, 8, 20, seed=16))
    mean, sd = (found[f"overlap_null_{moment}"][:, 0] for moment in ("mean", "sd"))
    z = (found["overlap"].mean(axis=1) - mean) / (sd / math.sqrt(count))
    assert np.abs(z).max() < 4
    assert np.abs(found["overlap"].std(axis=1) / sd - 1).max() < 0.1


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), d=st.integers(6, 12))
def test_rotations_of_the_hidden_space_leave_it_alone_and_other_maps_do_not(seed, d):
    first, second = gaussian_pair(d, 5, 7, seed=seed)
    before = curve(first, second, 4)
    turned = curve(*moved(first, second, rotation(d, seed=seed)), 4)
    sheared = curve(*moved(first, second, torch.eye(d).double() + 0.7 * gaussian(d, d, seed=seed + 1)), 4)
    for name in NUMBERS:
        np.testing.assert_allclose(turned[name], before[name], rtol=1e-6, atol=1e-8)
        assert not np.allclose(sheared[name][1:], before[name][1:], rtol=1e-3)


def test_single_precision_agrees():
    first, second = gaussian_pair(14, 9, 8, seed=17)
    double, single = curve(first, second), curve(first.float(), second.float())
    for name, values in single.items():
        np.testing.assert_allclose(values, double[name], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("shapes", [((6, 1), (4, 6)), ((1, 3), (4, 1)), ((6, 5), (1, 6))])
def test_a_width_of_one_has_one_direction_and_no_axes(shapes):
    found = curve(gaussian(*shapes[0], seed=18), gaussian(*shapes[1], seed=19))
    assert all(len(values) == 1 for values in found.values())
    assert 0 <= found["overlap"][0] <= 1 + 1e-12
    assert np.isnan(found["window_rho"][0])


def test_a_zero_weight_has_no_numbers():
    found = curve(torch.zeros(6, 4, dtype=torch.float64), gaussian(5, 6, seed=20))
    assert all(np.isnan(values).all() for name, values in found.items() if name != "window_contrast")


def test_the_last_row_is_that_of_the_interface_and_every_interface_has_its_ranks(rows):
    curves, interfaces = interfaces_by_rank(rows), interface_table(rows)
    keys = ["name", "kind", "layer", "head", "gauge_fixed"]
    of_interface = curves.groupby(keys, dropna=False)["k"]
    assert all(list(k) == list(range(1, 5)) for _, k in of_interface)
    last = curves[curves["k"] == 4].merge(interfaces, on=keys, suffixes=("", "_there"))
    assert len(last) == len(interfaces)
    for name in curves.columns.drop([*keys, "k"]):
        np.testing.assert_array_equal(last[name], last[f"{name}_there"])


def test_weights_of_small_rank_end_early_and_a_zero_one_has_no_rows():
    tensors = tiny_llama()
    tensors["model.layers.0.mlp.up_proj.weight"].zero_()
    keys = tensors["model.layers.1.self_attn.k_proj.weight"]
    keys[:HEAD_WIDTH] = keys[:1] * 2.0 ** torch.arange(HEAD_WIDTH)[:, None]
    rows = rows_of(tensors)
    curves, interfaces = interfaces_by_rank(rows), interface_table(rows)
    assert "layers.0.up-down" not in set(curves["name"])
    ends = curves.loc[curves.groupby(["name", "gauge_fixed"])["k"].idxmax()]
    there = ends.merge(interfaces[interfaces["rank"] > 0], on=["name", "gauge_fixed"], suffixes=("", "_there"))
    assert len(there) == (interfaces["rank"] > 0).sum()
    assert (there["k"] == there["rank"]).all()
    assert set(there.loc[there["kind"] == "q-k", "k"]) == {1, 4}
    assert (there["overlap"] == there["overlap_there"]).all()
    assert (there["window_rho"].isna() == (there["k"] == 1)).all()


def test_outlier_units_of_both_weights_are_what_random_signs_give():
    """One loud unit in both weights: at one direction they overlap, and the signs of the units change nothing."""
    first, second = gaussian_pair(12, 5, 6, seed=3)
    loud = torch.ones(12, dtype=first.dtype)
    loud[4] = 1e4
    curve = interface_curve(interface_pair(loud[:, None] * first, second * loud, 3))
    assert float(curve["overlap"][0]) == pytest.approx(1, abs=1e-6)
    assert float(curve["overlap_sign_flip_mean"][0]) == pytest.approx(1, abs=1e-6)
    pair = interface_pair(first, second, 3)
    generator = torch.Generator().manual_seed(0)
    order = torch.arange(12).expand(4000, -1)
    signs = 1 - 2.0 * torch.randint(0, 2, (4000, 12), generator=generator).to(first.dtype)
    drawn = INTERFACE_OVERLAP.measure(pair.reordered(order, signs))
    # Five standard errors of the mean of 4000 draws.
    error = 5 * float(drawn.std()) / 4000**0.5
    assert float(interface_curve(pair)["overlap_sign_flip_mean"][-1]) == pytest.approx(float(drawn.mean()), abs=error)
