import torch

from tests.proofs.builders import assert_close, gaussian, orthogonal

TOLERANCE = 1e-9


def rank(matrix):
    return int(torch.linalg.matrix_rank(matrix, rtol=TOLERANCE))


def meet(first, second):
    return rank(first) + rank(second) - rank(torch.cat([first, second], dim=1))


def null_space(matrix):
    return torch.linalg.svd(matrix).Vh[rank(matrix) :].mT


def layers(seed, *, shared):
    """W_1 (5 x 3) and W_2 (4 x 5) of rank 3, whose image and kernel share the given number of directions."""
    w1, kernel = gaussian(5, 3, seed=seed), gaussian(5, 2, seed=seed + 1)
    kernel[:, :shared] = w1[:, :shared]
    w2 = gaussian(4, 5, seed=seed + 2)
    return w1, w2 - w2 @ kernel @ torch.linalg.pinv(kernel)


def test_orbit_transformation():
    w1, w2 = layers(0, shared=1)
    g = gaussian(5, 5, seed=3)
    assert meet(g @ w1, g @ torch.linalg.svd(w1).U[:, :3]) == 3
    assert meet(null_space(w2 @ g.inverse()), g @ null_space(w2)) == 2
    rows = (w2 @ g.inverse()).mT
    assert meet(rows, g.inverse().mT @ w2.mT) == 3
    assert meet(rows, g @ w2.mT) < 3


def test_row_space_under_rotation():
    _, w2 = layers(4, shared=1)
    q = orthogonal(5, seed=7)
    assert meet((w2 @ q.inverse()).mT, q @ w2.mT) == 3


def test_image_row_intersection():
    w1, g = gaussian(6, 3, seed=8), gaussian(6, 6, seed=9)
    assert meet(w1, w1) == 3
    assert meet(g @ w1, (w1.mT @ g.inverse()).mT) == 0


def test_intersection_dimension():
    for shared in range(3):
        w1, w2 = layers(10, shared=shared)
        g = gaussian(5, 5, seed=13)
        assert meet(w1, null_space(w2)) == shared == rank(w1) - rank(w2 @ w1)
        assert meet(g @ w1, null_space(w2 @ g.inverse())) == shared


def test_pairs_of_subspaces():
    """Two random pairs of planes in R^4 that share a line are carried to each other by a solved-for map."""
    bases = [gaussian(4, 4, seed=seed) for seed in (14, 15)]
    witness = bases[1] @ bases[0].inverse()
    for columns in ([0, 1], [0, 2]):
        assert meet(witness @ bases[0][:, columns], bases[1][:, columns]) == 2
    apart = bases[1][:, [0, 1]], bases[1][:, [2, 3]]
    assert meet(*apart) != meet(witness @ bases[0][:, [0, 1]], witness @ bases[0][:, [0, 2]])


def test_orbit_codimension():
    """Perturbations that keep a shared line of two planes in R^4 span all but one dimension."""
    basis = gaussian(4, 4, seed=16)
    directions = []
    for seed in range(30):
        moved = gaussian(4, 4, seed=100 + seed) @ basis
        tangent = []
        for columns in ([0, 1], [0, 2]):
            plane = basis[:, columns]
            tangent.append((null_space(plane.mT).mT @ moved[:, columns] @ torch.linalg.pinv(plane) @ plane).flatten())
        directions.append(torch.cat(tangent))
    assert rank(torch.stack(directions)) == 2 * (2 * 2) - 1 * (4 - 2 - 2 + 1)


def test_chain_multiplicities():
    w1, w2 = layers(17, shared=1)
    r1, r2, r12 = rank(w1), rank(w2), rank(w2 @ w1)
    assert (r1 - r12, r12, 5 - r1 - r2 + r12) == (1, 2, 1)
    assert_close((3 - r1) + (r1 - r12) + r12, 3)
