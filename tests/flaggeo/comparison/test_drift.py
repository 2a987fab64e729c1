import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import torch

from flaggeo.comparison import drift
from flaggeo.comparison.drift import drift_table
from manifolds import Flag, abs_cosine_moments
from tests.builders import random_frame

DIM, RANK = 30, 6


def version(reads, writes, gap=0.5):
    """What drift reads of an analysis: two frames of one weight and its gap."""
    weights = pd.DataFrame([{"name": "layers.0.q", "role": "q", "layer": 0, "head": None, "gap_1": gap}]).astype(
        {"layer": "Int64", "head": "Int64"}
    )
    return SimpleNamespace(weights=weights, bases={"layers.0.q.read": reads, "layers.0.q.write": writes})


def moved(before, after, side="read", **gaps):
    other = random_frame(12, 2, seed=9)
    table = drift_table(version(before, other), version(after, other, **gaps), ["layers.0.q"])
    return table.set_index("side").loc[side]


@pytest.mark.parametrize("angle", [1e-6, 0.2, 1.5])
def test_a_planted_rotation_comes_back_and_only_there(angle):
    axes = random_frame(DIM, DIM, seed=1)
    before, after = axes[:, :RANK].clone(), axes[:, :RANK].clone()
    after[:, 0] = math.cos(angle) * axes[:, 0] + math.sin(angle) * axes[:, RANK]

    row = moved(before, after)

    for column in ("angle_1", "geodesic_distance", "flag_distance"):
        assert row[column] == pytest.approx(angle, rel=1e-8)
    assert row["rms_angle"] == pytest.approx(angle / math.sqrt(RANK))
    assert row["abs_cos_1"] == pytest.approx(math.cos(angle))
    for count, kept in ((1, 0), (2, 1), (4, 3)):
        assert row[f"overlap_{count}"] == pytest.approx((kept + math.cos(angle) ** 2) / count)
    assert np.isnan(row["overlap_8"])
    other = moved(before, after, side="write")
    assert other["geodesic_distance"] < 1e-12
    assert other["flag_distance"] == 0


def test_a_rotation_inside_the_subspace_moves_the_flag_alone():
    axes = random_frame(DIM, RANK, seed=1)
    turned = axes[:, [1, 0, 2, 3, 4, 5]]
    row = moved(axes, turned)
    assert row["geodesic_distance"] < 1e-12
    assert row["flag_distance"] == pytest.approx(math.pi / 2)
    assert row["overlap"] == pytest.approx(1)
    inside_a_block = moved(axes, axes[:, [0, 1, 3, 2, 4, 5]])  # the flag has steps 1, 2, 4, 6
    assert inside_a_block["flag_distance"] < 1e-12


def test_distances_agree_with_scipy_and_the_flag_manifold():
    before, after = random_frame(DIM, RANK, seed=2), random_frame(DIM, RANK, seed=3)
    angles = scipy.linalg.subspace_angles(before.numpy(), after.numpy())
    row = moved(before, after)
    assert row["geodesic_distance"] == pytest.approx(np.linalg.norm(angles))
    assert row["overlap"] == pytest.approx(np.mean(np.cos(angles) ** 2))
    flags = Flag(DIM, (1, 2, 4, 6))
    assert row["flag_distance"] == pytest.approx(float(flags.metric.dist(before, after)))
    assert row["overlap_effect_size"] == pytest.approx((row["overlap"] - RANK / DIM) / (1 - RANK / DIM))


def test_unchanged_by_one_rotation_of_both_and_not_by_a_stretch():
    before, after = random_frame(DIM, RANK, seed=2), random_frame(DIM, RANK, seed=3)
    rotation = random_frame(DIM, DIM, seed=4)
    numbers = ["angle_1", "geodesic_distance", "flag_distance", "overlap"]
    row = moved(before, after)[numbers].astype(float)
    assert moved(rotation @ before, rotation @ after)[numbers].astype(float).values == pytest.approx(row.values)
    stretch = torch.diag(torch.linspace(1, 30, DIM, dtype=torch.float64))
    stretched = [torch.linalg.qr(stretch @ frame).Q for frame in (before, after)]
    assert (moved(*stretched)[numbers].astype(float) - row).abs().min() > 1e-3


def test_unrelated_subspaces_give_their_null():
    rows = [moved(random_frame(DIM, RANK, seed=seed), random_frame(DIM, RANK, seed=seed + 100)) for seed in range(20)]
    z = np.array([row["overlap_z"] for row in rows], dtype=float)
    assert abs(z.mean()) < 3 / math.sqrt(20)
    cosines = [row["abs_cos_1"] for row in rows]
    mean, spread = abs_cosine_moments(DIM)
    assert np.mean(cosines) == pytest.approx(mean, abs=3 * spread / math.sqrt(20))


def test_single_precision_and_fewer_directions_are_compared_as_they_are():
    before, after = random_frame(DIM, RANK, seed=2), random_frame(DIM, RANK - 2, seed=3)
    exact, single = moved(before, after), moved(before.float(), after.float())
    assert exact["rank"] == single["rank"] == RANK - 2
    assert single["geodesic_distance"] == pytest.approx(exact["geodesic_distance"], abs=1e-5)
    cut = moved(before[:, : RANK - 2], after)
    assert cut["geodesic_distance"] == exact["geodesic_distance"]


def test_batches_of_a_bounded_size_give_the_same_table(monkeypatch):
    names = [f"layers.{layer}.q" for layer in range(5)]
    weights = pd.DataFrame([{"name": name, "role": "q", "layer": 0, "head": None, "gap_1": 0.5} for name in names])
    versions = [
        SimpleNamespace(
            weights=weights.astype({"layer": "Int64", "head": "Int64"}),
            bases={
                f"{name}.{side}": random_frame(DIM, RANK, seed=10 * seed + place)
                for place, name in enumerate(names)
                for side in ("read", "write")
            },
        )
        for seed in range(2)
    ]
    expected = drift_table(*versions, names)
    monkeypatch.setattr(drift, "_BATCH_ENTRIES", 3 * DIM * RANK)
    pd.testing.assert_frame_equal(drift_table(*versions, names), expected, rtol=1e-12, atol=1e-12)


def test_what_is_undefined_is_nan_and_what_is_undetermined_is_said():
    frame = random_frame(DIM, RANK, seed=2)
    zero = moved(frame, frame[:, :0])
    assert zero["rank"] == 0
    assert np.isnan(
        [zero[name] for name in ("angle_1", "geodesic_distance", "flag_distance", "overlap", "overlap_z")]
    ).all()
    line = moved(torch.ones(1, 1, dtype=torch.float64), -torch.ones(1, 1, dtype=torch.float64))
    assert line["geodesic_distance"] == line["flag_distance"] == 0
    assert np.isnan([line["overlap_effect_size"], line["overlap_z"]]).all()
    assert not moved(frame, frame)["undetermined"]
    assert moved(frame, frame, gap=1e-3)["undetermined"]
