import torch

from tests.proofs.builders import assert_close, gaussian, identity, orthogonal

POINTS = gaussian(6, 200, seed=0)


def defect(function, left, right=None):
    """Largest deviation of function(left x) from right function(x) over many points."""
    right = left if right is None else right
    return float((function(left @ POINTS) - right @ function(POINTS)).abs().max())


def permutation(seed):
    return identity(6)[torch.randperm(6, generator=torch.Generator().manual_seed(seed))]


def scales(seed):
    return torch.diag(gaussian(6, seed=seed).abs() + 0.5)


def signs(seed):
    return torch.diag(gaussian(6, seed=seed).sign())


def repeated_row():
    """A matrix whose rows all read the first entry."""
    matrix = torch.zeros(6, 6, dtype=torch.float64)
    matrix[:, 0] = 1
    return matrix


def test_radial_activation():
    q, shear = orthogonal(6, seed=1), gaussian(6, 6, seed=2)
    for radial in (torch.tanh, lambda length: torch.tanh(length) / length):

        def activation(x, radial=radial):
            return x * radial(x.norm(dim=0))

        assert defect(activation, q) < 1e-12
        assert defect(activation, shear) > 1e-3


def test_radial_control_nearly_linear():
    lengths = torch.linspace(0.01, 12, 500, dtype=torch.float64)
    error = 1 - torch.tanh(lengths)
    assert (error <= 2 * torch.exp(-2 * lengths) + 1e-15).all()
    assert (error > torch.exp(-2 * lengths)).any()
    assert 1 - torch.tanh(torch.tensor(5.0, dtype=torch.float64)) < 1e-4


def test_relu_symmetry():
    assert defect(torch.relu, permutation(3) @ scales(4)) < 1e-12
    assert defect(torch.relu, signs(5)) > 1e-3
    assert defect(torch.relu, orthogonal(6, seed=6)) > 1e-3
    assert defect(torch.relu, repeated_row()) == 0  # not invertible, and no monomial matrix


def test_tanh_symmetry():
    assert defect(torch.tanh, permutation(7) @ signs(8)) < 1e-12
    assert defect(torch.tanh, scales(9)) > 1e-3
    assert defect(torch.tanh, orthogonal(6, seed=10)) > 1e-3
    assert defect(torch.tanh, repeated_row()) == 0


def test_smooth_gate_symmetry():
    for activation in (torch.nn.functional.gelu, torch.nn.functional.silu):
        assert defect(activation, permutation(11)) < 1e-12
        assert defect(activation, signs(12)) > 1e-3
        assert defect(activation, scales(13)) > 1e-3
        assert defect(activation, repeated_row()) == 0


def test_rmsnorm_symmetry():
    q, gain, reader = orthogonal(6, seed=14), torch.diag(gaussian(6, seed=15)), gaussian(3, 6, seed=16)

    def norm(x):
        return torch.nn.functional.rms_norm(x.mT, (6,), eps=1e-5).mT

    assert defect(norm, q) < 1e-12
    assert defect(lambda x: gain @ norm(x), q) > 1e-3
    folded = reader @ gain
    assert_close((folded @ q.mT) @ norm(q @ POINTS), reader @ (gain @ norm(POINTS)))


def test_layernorm_symmetry():
    basis = torch.linalg.qr(torch.cat([torch.ones(6, 1, dtype=torch.float64), gaussian(6, 5, seed=17)], dim=1)).Q
    turn = torch.block_diag(identity(1), orthogonal(5, seed=18))

    def norm(x):
        return torch.nn.functional.layer_norm(x.mT, (6,)).mT

    assert defect(norm, basis @ turn @ basis.mT) < 1e-12
    assert defect(norm, orthogonal(6, seed=19)) > 1e-3


def test_layernorm_unseen():
    gains, bias = gaussian(6, seed=40), gaussian(6, 1, seed=41)
    reader, added, unseen = gaussian(3, 6, seed=42), gaussian(3, 1, seed=43), 1 / gains[:, None]

    def norm(x):
        return torch.nn.functional.layer_norm(x.mT, (6,), gains, bias[:, 0]).mT

    assert_close((reader + added @ unseen.mT) @ norm(POINTS), reader @ norm(POINTS) + added @ unseen.mT @ bias)
    kept = identity(6) - unseen @ unseen.mT / unseen.square().sum()
    assert_close((reader + added @ unseen.mT) @ kept, reader @ kept)
    assert_close(reader @ kept @ (norm(POINTS) - bias), reader @ (norm(POINTS) - bias))
    assert_close(norm(POINTS + gaussian(1, POINTS.shape[1], seed=44)), norm(POINTS))


def test_plain_layers_rotate():
    upper, lower, q = gaussian(6, 6, seed=20), gaussian(6, 6, seed=21), orthogonal(6, seed=22)
    assert_close((upper @ q.mT) @ (q @ lower) @ POINTS, upper @ lower @ POINTS)


def test_residual_layers_rotate():
    upper, lower, q = gaussian(6, 6, seed=23), gaussian(6, 6, seed=24), orthogonal(6, seed=25)
    plain = (identity(6) + upper) @ (identity(6) + lower)
    assert ((identity(6) + upper @ q.mT) @ (identity(6) + q @ lower) - plain).norm() > 1


def test_stream_rotates_as_a_whole():
    reader, writer, q = gaussian(4, 6, seed=26), gaussian(6, 4, seed=27), orthogonal(6, seed=28)

    def block(x, reader, writer):
        return x + writer @ torch.nn.functional.gelu(reader @ x)

    assert_close(block(q @ POINTS, reader @ q.mT, q @ writer), q @ block(POINTS, reader, writer))


def test_residual_gradient():
    lower, upper = gaussian(6, 6, seed=29), gaussian(6, 6, seed=30)
    h = gaussian(6, seed=31).requires_grad_()

    def block(x):
        return upper @ torch.relu(lower @ x)

    output = (h + block(h)).detach().requires_grad_()
    (upstream,) = torch.autograd.grad(output.sin().sum(), output)
    (direct,) = torch.autograd.grad((h + block(h)).sin().sum(), h)
    jacobian = torch.autograd.functional.jacobian(block, h.detach())
    assert_close(direct, upstream + jacobian.mT @ upstream)


def test_adam_is_rotation_equivariant():
    """One step of torch's own Adam from zero weights, with a gradient and with the rotated gradient."""
    q, gradient = orthogonal(6, seed=32), gaussian(6, seed=33)

    def step(direction):
        weight = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        weight.grad = direction
        torch.optim.Adam([weight], lr=1.0).step()
        return weight.detach()

    assert_close(step(gradient), -gradient.sign(), 1e-6)
    assert (step(q @ gradient) - q @ step(gradient)).norm() > 0.1
