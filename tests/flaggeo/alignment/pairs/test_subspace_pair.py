import numpy as np
import pytest
import scipy.linalg
import torch

from flaggeo.alignment.pairs.subspace_pair import SubspacePair
from tests.builders import random_frame


def frames(count, n, k, *, seed):
    return torch.stack([random_frame(n, k, seed=seed + number) for number in range(count)])


def test_axes_that_broadcast_are_all_pairs():
    first, second = frames(3, 9, 2, seed=0), frames(4, 9, 3, seed=10)
    tile = SubspacePair(first[:, None], second)
    assert tile.products.shape == (3, 4, 2, 3)
    for i in range(3):
        for j in range(4):
            alone = SubspacePair(first[i], second[j])
            torch.testing.assert_close(tile.products[i, j], first[i].mT @ second[j])
            torch.testing.assert_close(tile.angles[i, j], alone.angles)


@pytest.mark.parametrize(("n", "r", "s"), [(8, 3, 3), (9, 5, 2), (5, 5, 2), (6, 4, 5), (7, 1, 1)])
def test_angles_agree_with_scipy(n, r, s):
    pair = SubspacePair(random_frame(n, r, seed=1), random_frame(n, s, seed=2))
    expected = np.sort(scipy.linalg.subspace_angles(pair.first.numpy(), pair.second.numpy()))
    assert pair.angles.numpy() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-9, 1e-5, 0.1])
def test_tiny_angles_keep_their_digits_inside_a_batch(angle):
    """Arc cosines alone would give 0 or 1.5e-8."""
    axes = random_frame(12, 12, seed=3)
    turned = torch.stack([np.cos(angle) * axes[:, 0] + np.sin(angle) * axes[:, 4], axes[:, 5]], dim=1)
    pair = SubspacePair(axes[:, :2].expand(3, 12, 2), torch.stack([axes[:, 6:8], turned, axes[:, 8:10]]))
    assert pair.angles[1, 0] == pytest.approx(angle, rel=1e-4, abs=1e-15)
    assert pair.angles[[0, 2]].numpy() == pytest.approx(np.pi / 2)


def test_close_pairs_are_gathered_in_bounded_parts(monkeypatch):
    monkeypatch.setattr("flaggeo.alignment.pairs.subspace_pair._GATHERED_ENTRIES", 1)
    same = frames(5, 6, 2, seed=4)
    assert SubspacePair(same, same).angles.max() < 1e-14
