import torch

from tests.proofs.builders import assert_close, frame, gaussian, orthogonal


def adapted(first, second):
    """Frame of the space in which a pair of planes has coordinates that depend on the angles alone."""
    left, cosines, right = torch.linalg.svd(first.mT @ second)
    first, second = first @ left, second @ right.mT
    rest = second - first * cosines
    known = torch.cat([first, rest / rest.norm(dim=0)], dim=1)
    completed = torch.linalg.qr(torch.cat([known, gaussian(known.shape[0], 1, seed=3)], dim=1)).Q[:, -1:]
    return torch.cat([known, completed], dim=1)


def test_principal_angles_complete():
    """The map between two unrelated pairs with the same angles, from their frames alone."""
    angles = torch.tensor([0.4, 1.3], dtype=torch.float64)
    pairs = []
    for seed in (1, 5):
        axes = orthogonal(5, seed=seed)
        second = axes[:, :2] * angles.cos() + axes[:, 2:4] * angles.sin()
        pairs.append((axes[:, :2] @ orthogonal(2, seed=seed + 1), second @ orthogonal(2, seed=seed + 2)))
    move = adapted(*pairs[1]) @ adapted(*pairs[0]).mT
    assert_close(move.mT @ move, torch.eye(5))
    for before, after in zip(*pairs, strict=True):
        assert_close(move @ before @ before.mT @ move.mT, after @ after.mT)
    other = frame(5, 2, seed=9)
    assert (torch.linalg.svdvals(pairs[0][0].mT @ other) - angles.cos()).norm() > 0.05


def gram_entries(w1, w2):
    return w2 @ w1, w1.mT @ w1, w2 @ w2.mT


def test_interface_invariants():
    """The product stays and the Grams do not; an equal product of full rank means one orbit."""
    w1, w2, g = gaussian(2, 3, seed=1), gaussian(2, 2, seed=2), gaussian(2, 2, seed=3)
    moved = g @ w1, w2 @ torch.linalg.inv(g)
    before, after = gram_entries(w1, w2), gram_entries(*moved)
    assert_close(before[0], after[0])
    assert (before[1] - after[1]).norm() > 0.1
    change = torch.linalg.pinv(moved[1]) @ w2
    assert_close(change @ w1, moved[0])
    assert_close(w2 @ torch.linalg.inv(change), moved[1])


def test_interface_invariants_under_rotations():
    """Equal entries mean one orthogonal map between the pairs; the determinant sees its sign."""
    w1, w2, reflection = gaussian(2, 3, seed=5), gaussian(2, 2, seed=6), orthogonal(2, seed=7)
    if torch.linalg.det(reflection) > 0:
        reflection = reflection @ torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    for one, other in zip(gram_entries(w1, w2), gram_entries(reflection @ w1, w2 @ reflection.mT), strict=True):
        assert_close(one, other)
    stacked = torch.cat([w1, w2.mT], dim=1)
    moved = torch.cat([reflection @ w1, reflection @ w2.mT], dim=1)
    found = moved @ torch.linalg.pinv(stacked)
    assert_close(found.mT @ found, torch.eye(2))
    assert_close(torch.linalg.det(moved[:, :2]), -torch.linalg.det(stacked[:, :2]))
