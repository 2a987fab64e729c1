"""The formulas of the statements, evaluated with numbers, against the functions that the statements name."""

from functools import reduce
from itertools import product

import mpmath
import pytest
import sympy
import torch

import manifolds
import proofs
from manifolds import Flag, FlagMetric, Grassmannian
from proofs import coherence, flag_curvature, flag_geodesics
from tests.proofs.builders import assert_close, frame, gaussian

TOLERANCE = 1e-12
DIGITS = 40
NAMED = sorted({name for statement in proofs.statements() for name in statement.computed_by})
# Of these methods the formula is that of another one, or there is none.
WITHOUT_FORMULA = {
    "normalize",  # a vector over its norm
    "random_unit_tangent_vec",  # a draw
    "dist_pairwise",  # dist of all pairs
}
SPACES = [Grassmannian(5, 2), Flag(6, (1, 2, 3)), Flag(7, (2, 4, 6))]

spaces = pytest.mark.parametrize("space", SPACES, ids=repr)


@pytest.fixture(autouse=True)
def many_digits():
    with mpmath.workdps(DIGITS):
        yield


def exact(tensor):
    """The numbers of a tensor with 40 digits, so that rounding is that of the function alone."""
    return sympy.Matrix(*tensor.shape, [sympy.Float(value, DIGITS) for value in tensor.flatten().tolist()])


def numbers(matrix):
    return torch.tensor([float(entry) for entry in matrix], dtype=torch.float64).reshape(matrix.rows, -1)


def of_spectrum(function, matrix):
    """Function of a symmetric matrix, from its eigenvalues."""
    values, vectors = mpmath.eigsy(mpmath.matrix(matrix.tolist()))
    return sympy.Matrix((vectors * mpmath.diag([function(value) for value in values]) * vectors.T).tolist())


def exponential(matrix):
    return sympy.Matrix(mpmath.expm(mpmath.matrix(matrix.tolist())).tolist())


def blocks(space):
    """Projectors of the blocks in the coordinates of the frame."""
    k = space.dims[-1]
    ends = zip((0, *space.dims), space.dims, strict=False)
    return [sympy.diag(*[int(start <= i < stop) for i in range(k)]) for start, stop in ends]


def tangent(space, base, *, seed, length=1.0):
    vector = space.to_tangent(gaussian(*space.shape, seed=seed), base)
    return vector * (length / space.metric.norm(vector, base))


def start(space, *, seed=1):
    """A point, its number twin, and a tangent vector there with its twin and its parts."""
    base = frame(*space.shape, seed=seed)
    vector = tangent(space, base, seed=seed + 1)
    return base, exact(base), vector, exact(vector)


def parts(base, vector):
    """In-plane and normal part."""
    inside = base.T * vector
    return inside, vector - base * inside


@pytest.mark.parametrize("name", NAMED)
def test_named_function_exists_and_is_compared(name):
    package, *path = name.split(".")
    assert package == "manifolds"
    assert callable(reduce(getattr, path, manifolds))
    assert f"test_{path[-1].lower()}" in globals()


def test_every_method_with_a_formula_is_named():
    methods = {name for name, member in vars(FlagMetric).items() if callable(member) and not name.startswith("_")}
    named = {name.rpartition(".")[2] for name in NAMED if name.startswith("manifolds.FlagMetric.")}
    assert named == methods - WITHOUT_FORMULA
    assert methods >= WITHOUT_FORMULA


@spaces
def test_flag(space):
    sizes = torch.diff(torch.tensor([0, *space.dims, space.n])).tolist()
    assert space.dim == flag_geodesics.pairs(space.n) - sum(flag_geodesics.pairs(size) for size in sizes)


@spaces
def test_inner_product(space):
    base, exact_base, vector, exact_vector = start(space)
    other = tangent(space, base, seed=7)
    expected = flag_geodesics.inner_product(exact_base, exact_vector, exact(other))
    assert_close(space.metric.inner_product(vector, other, base), float(expected), TOLERANCE)


@spaces
def test_norm(space):
    base, exact_base, vector, _ = start(space)
    vector = 3 * vector
    squared = flag_geodesics.inner_product(exact_base, exact(vector), exact(vector))
    assert_close(space.metric.norm(vector, base), float(sympy.sqrt(squared)), TOLERANCE)


@spaces
def test_to_tangent(space):
    base, exact_base, *_ = start(space)
    ambient = gaussian(*space.shape, seed=3)
    expected = flag_geodesics.projected(exact(ambient), exact_base, blocks(space))
    assert_close(space.to_tangent(ambient, base), numbers(expected), TOLERANCE)


@spaces
def test_riemannian_gradient(space):
    base, exact_base, *_ = start(space)
    derivative = gaussian(*space.shape, seed=3)
    expected = flag_geodesics.projected(exact(derivative), exact_base, blocks(space), factor=2)
    assert_close(space.metric.riemannian_gradient(derivative, base), numbers(expected), TOLERANCE)


def reduced_exponential(base, vector):
    """End of the geodesic, from the 2k x 2k matrix with a scale of its own."""
    scale, k = sympy.Rational(7, 10), base.cols
    inside, normal = parts(base, vector)
    generator = flag_geodesics.reduced_generator(inside, normal.T * normal, scale, sympy.eye(k))
    columns = exponential(sympy.Matrix(sympy.BlockMatrix(generator)))[:, :k]
    return base * columns[:k, :] + normal / scale * columns[k:, :]


@spaces
def test_exp(space):
    """Also the n x n exponential, and for one block the cosine and sine of the Gram matrix."""
    base, exact_base, vector, exact_vector = start(space)
    end = space.metric.exp(vector, base)
    assert_close(end, numbers(reduced_exponential(exact_base, exact_vector)), TOLERANCE)
    lift = flag_geodesics.lift(exact_base, *parts(exact_base, exact_vector))
    assert_close(end, numbers(exponential(lift) * exact_base), TOLERANCE)
    if isinstance(space, Grassmannian):
        gram = exact_vector.T * exact_vector
        cosine = of_spectrum(lambda square: mpmath.cos(mpmath.sqrt(square)), gram)
        sinc = of_spectrum(lambda square: mpmath.sinc(mpmath.sqrt(square)), gram)
        assert_close(end, numbers(exact_base * cosine + exact_vector * sinc), TOLERANCE)


@spaces
def test_geodesic(space):
    base, exact_base, vector, exact_vector = start(space)
    path = space.metric.geodesic(base, initial_tangent_vec=vector)
    lift = flag_geodesics.lift(exact_base, *parts(exact_base, exact_vector))
    for time in (-0.5, 0.25, 2.0):
        assert_close(path(time)[0], numbers(exponential(time * lift) * exact_base), TOLERANCE)


@spaces
def test_log(space):
    base, exact_base, vector, exact_vector = start(space)
    end = numbers(reduced_exponential(exact_base, exact_vector))
    assert_close(space.metric.log(end, base), vector, TOLERANCE)


@spaces
def test_dist(space):
    base, exact_base, _, exact_vector = start(space)
    end = numbers(reduced_exponential(exact_base, exact_vector))
    assert_close(space.metric.dist(base, end), 1, TOLERANCE)


@spaces
def test_squared_dist(space):
    """Its derivative by the entries of the frame is the cotangent of minus twice the logarithm."""
    base, exact_base, _, exact_vector = start(space)
    end = numbers(reduced_exponential(exact_base, exact_vector))
    base.requires_grad_()
    (derivative,) = torch.autograd.grad(space.metric.squared_dist(base, end), base)
    expected = flag_geodesics.cotangent(-2 * exact_vector, exact_base)
    assert_close(derivative, numbers(expected), TOLERANCE)


@pytest.mark.parametrize("space", [Grassmannian(4, 2), Flag(4, (1, 2)), Flag(4, (1, 3))], ids=repr)
def test_parallel_transport(space):
    """The linear equation of the statement, solved by one exponential and moved with the geodesic."""
    n, k = space.shape
    base, exact_base, direction, exact_direction = start(space)
    vector = tangent(space, base, seed=9)
    velocity = parts(exact_base, exact_direction)
    units = [sympy.Matrix(n + k, k, lambda i, j, at=at: int((i, j) == at)) for at in product(range(n + k), range(k))]

    def rate(stacked):
        moved = flag_geodesics.transport_rate(velocity, (stacked[:k, :], stacked[k:, :]), blocks(space))
        return sympy.Matrix.vstack(*moved)

    system = sympy.Matrix.hstack(*(rate(unit).reshape((n + k) * k, 1) for unit in units))
    first = sympy.Matrix.vstack(*parts(exact_base, exact(vector))).reshape((n + k) * k, 1)
    last = (exponential(system) * first).reshape(n + k, k)
    flow = exponential(flag_geodesics.lift(exact_base, *velocity))
    expected = flow * (exact_base * last[:k, :] + last[k:, :])
    assert_close(space.metric.parallel_transport(vector, base, direction), numbers(expected), TOLERANCE)


@spaces
def test_polar_retraction(space):
    base, exact_base, vector, exact_vector = start(space)
    gram = sympy.eye(space.dims[-1]) + exact_vector.T * exact_vector
    expected = (exact_base + exact_vector) * of_spectrum(lambda value: 1 / mpmath.sqrt(value), gram)
    assert_close(space.metric.polar_retraction(vector, base), numbers(expected), TOLERANCE)


@spaces
def test_qr_retraction(space):
    base, exact_base, vector, exact_vector = start(space)
    triangle = (sympy.eye(space.dims[-1]) + exact_vector.T * exact_vector).cholesky(hermitian=False).T
    expected = (exact_base + exact_vector) * triangle.inv()
    assert_close(space.metric.qr_retraction(vector, base), numbers(expected), TOLERANCE)


def test_inverse_polar_retraction():
    space = SPACES[0]
    base, exact_base, vector, exact_vector = start(space)
    gram = sympy.eye(2) + exact_vector.T * exact_vector
    mixing = of_spectrum(lambda value: 1 / mpmath.sqrt(value), gram) * exact(frame(2, 2, seed=4))
    end = numbers((exact_base + exact_vector) * mixing)
    assert_close(space.metric.inverse_polar_retraction(end, base), vector, TOLERANCE)


@spaces
def test_sectional_curvature(space):
    base, exact_base, vector, exact_vector = start(space)
    other = tangent(space, base, seed=5)
    pair = parts(exact_base, exact_vector), parts(exact_base, exact(other))
    expected = flag_curvature.sectional_curvature(*pair, blocks(space))
    assert_close(space.metric.sectional_curvature(vector, other, base), float(expected), TOLERANCE)


@pytest.mark.parametrize(
    ("space", "vectors", "curvature"),
    [
        (Grassmannian(4, 2), ([[0, 0], [0, 0], [1, 0], [0, 1]], [[0, 0], [0, 0], [0, -1], [1, 0]]), 2),
        (Grassmannian(4, 2), ([[0, 0], [0, 0], [1, 0], [0, 0]], [[0, 0], [0, 0], [0, 0], [0, 1]]), 0),
        (Flag(3, (1, 2)), ([[0, -1], [1, 0], [0, 0]], [[0, 0], [0, 0], [0, 1]]), 0.25),
    ],
)
def test_planes_of_extreme_curvature(space, vectors, curvature):
    base = torch.eye(*space.shape, dtype=torch.float64)
    first, second = (torch.tensor(vector, dtype=torch.float64) for vector in vectors)
    assert_close(space.metric.sectional_curvature(first, second, base), curvature, TOLERANCE)


@spaces
def test_injectivity_radius(space):
    assert_close(space.metric.injectivity_radius(frame(*space.shape, seed=1)), float(sympy.pi / 2), TOLERANCE)


@spaces
def test_geodesic_distance(space):
    """Of each member it is at most the distance of the flags."""
    base, exact_base, _, exact_vector = start(space)
    end = numbers(reduced_exponential(exact_base, exact_vector))
    for dim in space.dims:
        first, second = exact(base[:, :dim]), exact(end[:, :dim])
        rest = second - first * (first.T * second)
        sines = mpmath.svd_r(mpmath.matrix(rest.tolist()), compute_uv=False)
        distance = manifolds.geodesic_distance(base[:, :dim], end[:, :dim])
        assert_close(distance, float(mpmath.norm([mpmath.asin(sine) for sine in sines])), TOLERANCE)
        assert distance <= 1 + TOLERANCE


def test_principal_angles():
    """The canonical pair of the statement, in frames and axes of its own."""
    angles = torch.tensor([0.0, 1e-6, 0.3, 1.2], dtype=torch.float64)
    axes = frame(9, 8, seed=1)
    first, second = axes[:, :4], axes[:, :4] * angles.cos() + axes[:, 4:] * angles.sin()
    found = manifolds.principal_angles(first @ frame(4, 4, seed=2), second @ frame(4, 4, seed=3))
    assert_close(found, angles, TOLERANCE)


def test_singular_subspace_error():
    """Wedin's bound for the backward error of a decomposition."""
    values, eps = torch.tensor([3.0, 2.0, 0.5], dtype=torch.float64), torch.finfo(torch.float64).eps
    error = 20 * 7 * sympy.Float(eps) * 3
    expected = coherence.largest_sine(error, *map(sympy.Float, values[1:].tolist()))
    found = manifolds.singular_subspace_error(values, 2, (7, 3))
    assert found / float(expected) == pytest.approx(1, abs=TOLERANCE)
