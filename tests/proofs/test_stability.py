import torch

from tests.proofs.builders import assert_close, frame, gaussian, identity, imbalance, orthogonal
from tests.proofs.test_orbits import null_space, rank


def nuclear(matrix):
    return torch.linalg.svdvals(matrix).sum()


def orbit_norm(w1, w2, g):
    return (g @ w1).square().sum() + (w2 @ g.inverse()).square().sum()


def least_orbit_norm(w1, w2, steps=400):
    """Minimise over g = exp(X) with L-BFGS; returns the minimum and the condition of the last g."""
    x = torch.zeros(w1.shape[0], w1.shape[0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([x], max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        value = orbit_norm(w1, w2, torch.linalg.matrix_exp(x))
        value.backward()
        return value

    optimizer.step(closure)
    g = torch.linalg.matrix_exp(x.detach())
    return orbit_norm(w1, w2, g), g


def test_quotient_dimension():
    w1, w2 = gaussian(2, 3, seed=0), gaussian(4, 2, seed=1)
    jacobian = torch.autograd.functional.jacobian(lambda a, b: (b @ a).flatten(), (w1, w2))
    joined = torch.cat([part.reshape(12, -1) for part in jacobian], dim=1)
    assert rank(joined) == 2 * (3 + 4 - 2)


def test_invariants_are_ranks():
    w1, w2, g = gaussian(3, 3, seed=2), gaussian(3, 3, seed=3), gaussian(3, 3, seed=4)
    assert_close((w2 @ g.inverse()) @ (g @ w1), w2 @ w1)
    assert rank(w1) == rank(2 * w1)
    assert (w2 @ w1 - w2 @ (2 * w1)).norm() > 1


def test_one_parameter_degeneration():
    w1, w2 = gaussian(4, 2, seed=5), gaussian(2, 4, seed=6)
    w1[2:], w2[:, [0, 2]] = 0, 0
    limit_w1, limit_w2 = w1.clone(), w2.clone()
    limit_w1[0], limit_w2[:, 3] = 0, 0
    for t in (1e-3, 1e-6):
        g = torch.diag(torch.tensor([t, 1, 1, 1 / t], dtype=torch.float64))
        assert (g @ w1 - limit_w1).norm() < 10 * t
        assert (w2 @ g.inverse() - limit_w2).norm() < 10 * t
        assert_close((w2 @ g.inverse()) @ (g @ w1), w2 @ w1)


def test_closed_orbit():
    """A complementary pair attains its least norm, a pair with image inside the kernel runs off to infinity."""
    w1 = gaussian(3, 2, seed=7)
    w2 = gaussian(2, 3, seed=8)
    assert rank(torch.cat([w1, null_space(w2)], dim=1)) == 3
    _, g = least_orbit_norm(w1, w2)
    assert torch.linalg.cond(g) < 100
    w1 = torch.cat([null_space(w2), gaussian(3, 1, seed=9)], dim=1)
    _, g = least_orbit_norm(w1, w2)
    assert torch.linalg.cond(g) > 100


def test_kempf_ness_minimum():
    w1, w2 = gaussian(4, 4, seed=10), gaussian(5, 4, seed=11)
    least, g = least_orbit_norm(w1, w2)
    assert_close(least, 2 * nuclear(w2 @ w1), 1e-8)
    assert_close(imbalance(g @ w1, w2 @ g.inverse()), torch.zeros(4, 4), 1e-4)
    assert orbit_norm(w1, w2, gaussian(4, 4, seed=12)) > least


def test_kempf_ness_minimum_is_not_attained_on_an_orbit_that_is_not_closed():
    """W_1 = e_1 and W_2 = e_2^T have product 0: norms come down to 0 along a run to infinity, and none is 0."""
    w1, w2 = identity(2)[:, :1], identity(2)[1:]
    assert nuclear(w2 @ w1) == 0
    norms = [orbit_norm(w1, w2, torch.diag(torch.tensor([t, 1 / t], dtype=torch.float64))) for t in (1, 1e-2, 1e-4)]
    assert_close(torch.stack(norms), torch.tensor([2, 2e-4, 2e-8]))
    least, g = least_orbit_norm(w1, w2)
    assert 0 < least < 1e-3
    assert torch.linalg.cond(g) > 1e3
    for seed in range(20):
        assert orbit_norm(w1, w2, gaussian(2, 2, seed=seed)) > 0


def test_kempf_ness_gap():
    for seed in range(20):
        w1, w2 = gaussian(4, 5, seed=seed), gaussian(3, 4, seed=seed + 50)
        excess = w1.square().sum() + w2.square().sum() - 2 * nuclear(w2 @ w1)
        assert 0 <= excess <= nuclear(imbalance(w1, w2))


def test_deep_chain_minimum():
    """Gradient descent on the factors of a chain of three layers, with the product held by a penalty."""
    target = orthogonal(2, seed=13) @ torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64)) @ orthogonal(2, seed=14)
    chain = [(0.7 * identity(2) + 0.2 * gaussian(2, 2, seed=15 + k)).requires_grad_() for k in range(3)]
    weight = 1e4
    optimizer = torch.optim.LBFGS(chain, max_iter=2000, line_search_fn="strong_wolfe", tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        defect = (chain[2] @ chain[1] @ chain[0] - target).square().sum()
        value = sum(w.square().sum() for w in chain) + weight * defect
        value.backward()
        return value

    optimizer.step(closure)
    least = sum(w.square().sum() for w in chain).detach()
    assert_close(least, 3 * (3 ** (2 / 3) + 1), 1e-3)
    assert_close(imbalance(chain[0], chain[1]).detach(), torch.zeros(2, 2), 1e-3)


def test_isospectral_flag():
    """Tangent space at a spectrum with multiplicities 2, 1, 2 has dimension 2 + 4 + 2."""
    spectrum = torch.diag(torch.tensor([3.0, 3, 2, 0, 0], dtype=torch.float64))
    tangents = []
    for seed in range(20):
        skew = gaussian(5, 5, seed=seed)
        skew = skew - skew.mT
        tangents.append((skew @ spectrum - spectrum @ skew).flatten())
    assert rank(torch.stack(tangents)) == 8
    # One multiplicity: the common Gram is a point, though the balanced pairs with the product I are a whole O(2).
    for seed in range(3):
        w1 = orthogonal(2, seed=30 + seed)
        assert_close(w1.mT @ w1, identity(2))
        assert_close(w1 @ w1.mT, identity(2))
        assert (w1 - identity(2)).norm() > 0.1


def test_nested_pairs_polystable():
    """Scaling by diag(t, .., 1/s, ..) with determinant 1 takes a nested pair's frame products to 0."""
    small, large = identity(3)[:, :1], identity(3)[:, :2]
    g = torch.diag(torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64))
    assert_close(torch.linalg.det(g), 1)
    volumes = [torch.linalg.det((g @ x).mT @ (g @ x)).sqrt() for x in (small, large)]
    assert max(volumes) <= 0.1 + 1e-12


def test_complementary_pairs_semistable():
    """No determinant-one scaling shrinks both volumes of a complementary pair: their product is bounded below."""
    first, second = frame(4, 2, seed=16), gaussian(4, 2, seed=17)
    determinant = torch.linalg.det(torch.cat([first, second], dim=1)).abs()
    for seed in range(20):
        g = gaussian(4, 4, seed=seed)
        g = g / torch.linalg.det(g).abs() ** 0.25
        volumes = [torch.linalg.det((g @ x).mT @ (g @ x)).sqrt() for x in (first, second)]
        assert volumes[0] * volumes[1] >= determinant * (1 - 1e-9)
