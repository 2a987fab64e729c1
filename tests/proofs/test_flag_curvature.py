import math

import torch

from tests.manifolds.builders import full_exponential, lift, random_tangent
from tests.proofs.builders import assert_close, bracket, frame, gaussian

N, DIMS = 5, (1, 3)


def test_flag_sectional_curvature():
    """Neighbouring geodesics spread as the curvature of their plane says."""
    base = frame(N, 3, seed=1)
    first, second = (random_tangent(base, DIMS, seed=seed, length=1.0) for seed in (2, 4))
    lifts = [lift(vector, base) for vector in (first, second)]
    product = (lifts[0] * lifts[1]).sum() / 2
    second = second - product * first
    second = second / ((lift(second, base) ** 2).sum() / 2).sqrt()
    between, inside = parts(bracket(lift(first, base), lift(second, base)), base)
    expected = between.square().sum() / 8 + inside.square().sum() / 2
    # A geodesic field J with J(0) = 0 and J'(0) = Y has |J(t)|^2 = t^2 - K t^4 / 3 + ..., here by a central difference.
    step, t = 1e-3, 0.05
    before, after = (full_exponential(t * (first + sign * step * second), base) for sign in (-1, 1))
    now, field = full_exponential(t * first, base), (after - before) / (2 * step)
    inside = now.mT @ field
    # Turns inside the blocks move the frame, not the flag.
    square = field.square().sum() - inside.square().sum() / 2 - blocks_of(inside).square().sum() / 2
    assert_close(3 * (t**2 - square) / t**4, expected, 2e-2)


def blocks_of(matrix):
    kept = torch.zeros_like(matrix)
    kept[:1, :1], kept[1:3, 1:3] = matrix[:1, :1], matrix[1:3, 1:3]
    return kept


def parts(turn, base):
    """Parts of an element of so(n) between and inside the blocks, in the whole space."""
    whole = torch.linalg.qr(base, mode="complete").Q
    basis = torch.cat([base, whole[:, 3:]], dim=1)
    inside = basis.mT @ turn @ basis
    kept = torch.zeros_like(inside)
    for a, b in ((0, 1), (1, 3), (3, N)):
        kept[a:b, a:b] = inside[a:b, a:b]
    return inside - kept, kept


def ratio(first, second):
    return bracket(first, second).norm(dim=(-2, -1)) / (first.norm(dim=(-2, -1)) * second.norm(dim=(-2, -1)))


def test_flag_curvature_bounds():
    """Skew matrices obey the bound, which two turns of a plane in 4-space attain and which 3-space does not reach."""
    for n in (3, 4, 5, 7):
        first, second = (gaussian(2000, n, n, seed=seed) for seed in (n, n + 20))
        ratios = ratio(first - first.mT, second - second.mT)
        assert ratios.max() <= (math.sqrt(0.5) if n == 3 else 1) + 1e-12
    base = torch.eye(4, dtype=torch.float64)[:, :2]
    straight, crossed = torch.zeros(2, 4, 2, dtype=torch.float64)
    straight[2:] = torch.eye(2)
    crossed[2:] = torch.tensor([[0.0, -1], [1, 0]])
    assert_close(ratio(lift(straight, base), lift(crossed, base)), 1)


def test_flag_injectivity_radius():
    """A turn between two lines of a flag: shortest up to pi/2, and closed at pi."""
    base = torch.eye(4, dtype=torch.float64)[:, :2]
    turn = torch.tensor([[0.0, -1], [1, 0], [0, 0], [0, 0]], dtype=torch.float64)

    def lines(angle):
        end = full_exponential(angle * turn, base)
        return torch.stack([torch.outer(column, column) for column in end.mT])

    assert_close(lines(math.pi / 2), lines(-math.pi / 2))
    assert_close(lines(math.pi), lines(0.0))
    assert (lines(1.5) - lines(-1.5)).norm() > 0.1
    assert (lines(3.0) - lines(0.0)).norm() > 0.1


def test_member_distance():
    """Along a geodesic of flags each member moves no faster, so it ends no farther away."""
    base = frame(N, 3, seed=6)
    for seed in range(8, 28, 2):
        vector = random_tangent(base, DIMS, seed=seed, length=1.2)
        end = full_exponential(vector, base)
        for dim in DIMS:
            cosines = torch.linalg.svdvals(base[:, :dim].mT @ end[:, :dim]).clamp(max=1)
            assert torch.arccos(cosines).norm() <= 1.2 + 1e-9
