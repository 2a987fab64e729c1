import torch

from tests.proofs.builders import assert_close, bracket, frame, gaussian, identity, orthogonal


def overlap(first, second):
    return (first.mT @ second).square().sum()


def image(matrix):
    return torch.linalg.qr(matrix).Q


def test_projection_overlap_invariance():
    u, v, q, g = frame(7, 2, seed=0), frame(7, 3, seed=1), orthogonal(7, seed=2), gaussian(7, 7, seed=3)
    mixed = q @ u @ orthogonal(2, seed=4), q @ v @ orthogonal(3, seed=5)
    assert_close(overlap(*mixed), overlap(u, v))
    assert_close(overlap(u, v), torch.trace(u @ u.mT @ v @ v.mT))
    assert abs(overlap(image(g @ u), image(g @ v)) - overlap(u, v)) > 1e-3


def test_overlap_under_gl():
    for x in (0.0, 0.5, 3.0):
        g = torch.tensor([[1.0, 0.0], [x, 1.0]], dtype=torch.float64)
        u, v = g[:, :1], (identity(2)[:1] @ g.inverse()).mT
        assert_close(overlap(image(u), image(v)), 1 / (1 + x**2))


def test_sine_form():
    u, v = frame(9, 3, seed=6), frame(9, 4, seed=7)
    cosines = torch.linalg.svdvals(u.mT @ v)
    sines = torch.linalg.svdvals(v - u @ (u.mT @ v)).flip(0)
    assert_close(sines[:3], (1 - cosines**2).sqrt())
    joined = torch.linalg.svdvals(torch.cat([u, v], dim=1))
    assert_close(joined[:3], (1 + cosines).sqrt())


def leading(weight, side):
    left, _, right = torch.linalg.svd(weight)
    return left[:, 0] if side == "write" else right[0]


def test_singular_vector_cosine_invariance():
    first, second = gaussian(6, 5, seed=8), gaussian(6, 4, seed=9)
    q, g = orthogonal(6, seed=10), gaussian(6, 6, seed=11)
    before = leading(first, "write").dot(leading(second, "write")).abs()
    assert_close(leading(q @ first, "write").dot(leading(q @ second, "write")).abs(), before)
    assert (leading(g @ first, "write").dot(leading(g @ second, "write")).abs() - before).abs() > 1e-3


def weighted_continuity(first, second):
    _, values, right = torch.linalg.svd(first)
    _, _, other = torch.linalg.svd(second)
    return (values**2 * (right * other).sum(dim=1).abs()).sum() / values.square().sum()


def test_sigma2_weighted_invariance():
    first, second, q = gaussian(5, 5, seed=12), gaussian(5, 5, seed=13), orthogonal(5, seed=14)
    before = weighted_continuity(first, second)
    assert 0 <= before <= 1
    assert_close(weighted_continuity(3 * first @ q, second @ q), before)
    assert_close(weighted_continuity(first, first), 1)
    g = gaussian(5, 5, seed=15)
    assert (weighted_continuity(first @ g, second @ g) - before).abs() > 1e-3


def test_continuity_sees_subspaces_only():
    values = torch.tensor([1 + 1e-9, 1, 1 - 1e-3], dtype=torch.float64)
    swapped = values[[1, 0, 2]]
    assert_close(weighted_continuity(torch.diag(values), torch.diag(swapped)), 1 / 3, 1e-2)


def test_gram_observables_invariance():
    w1, w2 = gaussian(5, 4, seed=16), gaussian(3, 5, seed=17)

    def observables(w1, w2):
        a, b = w1 @ w1.mT, w2.mT @ w2
        return torch.stack([bracket(a, b).norm(), (a * b).sum()]) / (a.norm() * b.norm())

    q, scale = orthogonal(5, seed=18), torch.diag(gaussian(5, seed=19).abs() + 0.5)
    turned = observables(2 * q @ w1 @ orthogonal(4, seed=20), 3 * orthogonal(3, seed=21) @ w2 @ q.mT)
    assert_close(turned, observables(w1, w2))
    assert (observables(scale @ w1, w2 @ scale.inverse()) - observables(w1, w2)).abs().max() > 1e-3


def test_centred_gram_cosine_invariance():
    a, b, q = gaussian(5, 5, seed=22), gaussian(5, 5, seed=23), orthogonal(5, seed=24)
    a, b = a @ a.mT, b @ b.mT

    def centred(gram):
        return gram - gram.trace() / 5 * identity(5)

    value = (centred(a) * centred(b)).sum()
    assert_close(value, (a * b).sum() - a.trace() * b.trace() / 5)
    assert_close((centred(q @ a @ q.mT) * centred(q @ b @ q.mT)).sum(), value)


def test_head_gauge_invariance():
    """Attention outputs of a head do not see a gauge; nor do the subspaces that it reads and writes."""
    query, key, value = (gaussian(6, 2, seed=25 + k) for k in range(3))
    output, r, s, x = gaussian(2, 6, seed=28), gaussian(2, 2, seed=29), gaussian(2, 2, seed=30), gaussian(9, 6, seed=31)

    def head(query, key, value, output):
        return torch.softmax(x @ query @ key.mT @ x.mT, dim=-1) @ x @ value @ output

    gauged = query @ r, key @ r.inverse().mT, value @ s, s.inverse() @ output
    assert_close(head(*gauged), head(query, key, value, output))
    assert_close(overlap(image(gauged[2]), image(gauged[0])), overlap(image(value), image(query)))


def test_composition_score_invariance():
    read, write, q = gaussian(2, 6, seed=32), gaussian(6, 6, seed=33), orthogonal(6, seed=34)
    score = (read @ write).norm() / (read.norm() * write.norm())
    assert_close((read @ q.mT @ q @ write).norm() / ((read @ q.mT).norm() * (q @ write).norm()), score)


def test_signed_rank_one_overlap():
    first, second = (torch.linalg.svd(gaussian(5, 4, seed=seed)) for seed in (35, 36))
    value = first.U[:, 0].dot(second.U[:, 0]) * first.Vh[0].dot(second.Vh[0])
    rank_one = [torch.outer(f.U[:, 0], f.Vh[0]) for f in (first, second)]
    assert_close(value, (rank_one[0] * rank_one[1]).sum())
    assert_close((-first.U[:, 0]).dot(second.U[:, 0]) * (-first.Vh[0]).dot(second.Vh[0]), value)


def test_path_invariance():
    path, q = gaussian(6, 4, seed=44), orthogonal(6, seed=45)

    def variances(path):
        aligned = [path[:, 0]]
        for direction in path.mT[1:]:
            aligned.append(direction * direction.dot(aligned[-1]).sign())
        aligned = torch.stack(aligned)
        return torch.linalg.svdvals(aligned - aligned.mean(dim=0))

    signs = torch.tensor([-1, 1, -1, -1])
    assert_close(variances(q @ path * signs), variances(path))
    assert (variances(gaussian(6, 6, seed=46) @ path) - variances(path)).abs().max() > 1e-3


def test_row_order_keeps_read_side():
    first, second = gaussian(6, 4, seed=37), gaussian(6, 4, seed=38)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(39))
    before = leading(first, "read").dot(leading(second, "read")).abs()
    assert_close(leading(first[order], "read").dot(leading(second, "read")).abs(), before)


def test_expert_order():
    experts, order = gaussian(5, 3, 4, seed=40), [3, 1, 4, 0, 2]
    assert_close((experts[order].mT @ experts[order]).sum(dim=0), (experts.mT @ experts).sum(dim=0))


def test_spectrum_invariance():
    weight = gaussian(5, 4, seed=41)
    moved = orthogonal(5, seed=42) @ weight @ orthogonal(4, seed=43)
    assert_close(torch.linalg.svdvals(moved), torch.linalg.svdvals(weight))


def test_gradient_sum_is_displacement():
    weight = gaussian(3, 3, seed=44).requires_grad_()
    start, total = weight.detach().clone(), torch.zeros(3, 3, dtype=torch.float64)
    optimizer = torch.optim.SGD([weight], lr=0.05)
    for _ in range(10):
        optimizer.zero_grad()
        weight.sin().sum().backward()
        total += weight.grad
        optimizer.step()
    assert_close(weight.detach() - start, -0.05 * total)
