import itertools

import torch

from tests.proofs.builders import gaussian
from tests.proofs.test_orbits import meet, null_space, rank


def table(first, second):
    d = first.shape[0]
    return torch.tensor([[meet(first[:, :i], second[:, :j]) for j in range(1, d + 1)] for i in range(1, d + 1)])


def pair(permutation, seed):
    """A pair of complete flags in a given relative position, hidden by random changes of basis."""
    d = len(permutation)
    change = gaussian(d, d, seed=seed)
    inverse = [permutation.index(step) for step in range(d)]
    upper = [torch.triu(gaussian(d, d, seed=seed + k)) for k in (1, 2)]
    return change @ upper[0], change[:, inverse] @ upper[1]


def test_pairs_of_flags():
    for permutation in itertools.permutations(range(4)):
        positions = table(*pair(permutation, seed=1))
        jumps = positions.diff(dim=0, prepend=torch.zeros(1, 4, dtype=positions.dtype))
        jumps = jumps.diff(dim=1, prepend=torch.zeros(4, 1, dtype=positions.dtype))
        assert jumps.argmax(dim=1).tolist() == list(permutation)


def test_position_of_partial_flags():
    first, second = pair((2, 0, 3, 1), seed=4)
    positions = torch.tensor([[meet(first[:, :i], second[:, :j]) for j in (1, 3, 4)] for i in (2, 4)])
    counts = positions.diff(dim=0, prepend=torch.zeros(1, 3, dtype=positions.dtype))
    counts = counts.diff(dim=1, prepend=torch.zeros(2, 1, dtype=positions.dtype))
    assert counts.min() >= 0
    assert counts.sum(dim=1).tolist() == [2, 2]
    assert counts.sum(dim=0).tolist() == [1, 2, 1]


def test_closure_order():
    """A perturbation can only lower the intersections, down to those of the longest permutation."""
    first, second = pair((1, 0, 2), seed=7)
    perturbed = table(first, second + 1e-3 * gaussian(3, 3, seed=8))
    assert (perturbed <= table(first, second)).all()
    assert perturbed.tolist() == [[max(0, i + j - 3) for j in (1, 2, 3)] for i in (1, 2, 3)]


def test_image_and_kernel_flags():
    widths = [4, 5, 6, 5, 4]
    chain = [gaussian(b, a, seed=20 + a + b) for a, b in itertools.pairwise(widths)]
    for k in (0, 3):
        chain[k] = chain[k][:, :2] @ gaussian(2, chain[k].shape[1], seed=30 + k)
    w1, w2, w3, w4 = chain
    found = [
        [meet(image, null_space(kernel)) if rank(kernel) < 6 else 0 for kernel in (w3, w4 @ w3)]
        for image in (w2 @ w1, w2)
    ]
    ranks = [[rank(image) - rank(kernel @ image) for kernel in (w3, w4 @ w3)] for image in (w2 @ w1, w2)]
    assert found == ranks == [[0, 0], [0, 3]]
