"""Device and dtype follow the arguments, without an accelerator at hand.

A constant made without naming the device lands on torch's default device. Here that default is the meta device,
whose tensors hold no values, while the arguments lie on the CPU: a stray constant makes the operation fail,
or its result lie on the meta device. In the second test the arguments lie on the meta device: a constant on
the CPU fails there.
"""

import pytest
import torch

import manifolds
from manifolds.backend import import_geomstats  # noqa: F401  # geomstats makes tensors while it is imported
from manifolds.flag import Flag
from manifolds.grassmannian import Grassmannian

from .builders import generator, random_frame, random_tangent

DIMS = (1, 3)


def arguments(dtype):
    base, end = random_frame(8, 3, seed=1), random_frame(8, 3, seed=2)
    tangent, direction = (random_tangent(base, (3,), seed=seed, length=0.5) for seed in (3, 5))
    basis, samples = random_frame(8, 8, seed=6), random_frame(8, 3, seed=7, batch=(4,))
    return [tensor.to(dtype) for tensor in (base, end, tangent, direction, basis, samples)]


FUNCTIONS = {
    "orthonormalize": lambda b, e, t, d, f, s: manifolds.orthonormalize(b),
    "polar_factor": lambda b, e, t, d, f, s: manifolds.polar_factor(b),
    "orthogonal_complement": lambda b, e, t, d, f, s: manifolds.orthogonal_complement(b),
    "project": lambda b, e, t, d, f, s: manifolds.project(e, b),
    "reject": lambda b, e, t, d, f, s: manifolds.reject(e, b),
    "same_span": lambda b, e, t, d, f, s: manifolds.same_span(b, e),
    "require_frame": lambda b, e, t, d, f, s: manifolds.require_frame(b, "frame") or b,
    "principal_angles": lambda b, e, t, d, f, s: manifolds.principal_angles(b, e),
    "projection_overlap": lambda b, e, t, d, f, s: manifolds.projection_overlap(b, e),
    "chordal_distance": lambda b, e, t, d, f, s: manifolds.chordal_distance(b, e, DIMS),
    "geodesic_distance": lambda b, e, t, d, f, s: manifolds.geodesic_distance(b, e),
    "asimov_distance": lambda b, e, t, d, f, s: manifolds.asimov_distance(b, e),
    "procrustes_distance": lambda b, e, t, d, f, s: manifolds.procrustes_distance(b, e),
    "martin_distance": lambda b, e, t, d, f, s: manifolds.martin_distance(b, e),
    "fubini_study_distance": lambda b, e, t, d, f, s: manifolds.fubini_study_distance(b, e),
    "binet_cauchy_distance": lambda b, e, t, d, f, s: manifolds.binet_cauchy_distance(b, e),
    "plucker_inner_product": lambda b, e, t, d, f, s: manifolds.plucker_inner_product(b, e),
    "pairwise_overlap": lambda b, e, t, d, f, s: manifolds.pairwise_overlap([*s, b[:, :2]]),
    "pairwise_overlap of wide frames": lambda b, e, t, d, f, s: manifolds.pairwise_overlap([f[:, :7], f[:, 1:]]),
    "intersection_dimension": lambda b, e, t, d, f, s: manifolds.intersection_dimension(b, e).dimension,
    "contains": lambda b, e, t, d, f, s: manifolds.contains(f, e),
    "uniform_frame": lambda b, e, t, d, f, s: manifolds.uniform_frame(5, 2, dtype=b.dtype, device=b.device),
}
SPACES = {"flag": Flag(8, DIMS), "grassmannian": Grassmannian(8, 3)}
METHODS = {
    "belongs": lambda m, b, e, t, d, f, s: m.belongs(b),
    "is_tangent": lambda m, b, e, t, d, f, s: m.is_tangent(t, b),
    "to_tangent": lambda m, b, e, t, d, f, s: m.to_tangent(e, b),
    "projection": lambda m, b, e, t, d, f, s: m.projection(b + e),
    "regularize": lambda m, b, e, t, d, f, s: m.regularize(b),
    "submersion": lambda m, b, e, t, d, f, s: m.submersion(b),
    "tangent_submersion": lambda m, b, e, t, d, f, s: m.tangent_submersion(t, b),
    "random_point": lambda m, b, e, t, d, f, s: m.random_point(2, dtype=b.dtype, device=b.device),
    "random_tangent_vec": lambda m, b, e, t, d, f, s: m.random_tangent_vec(b),
    "inner_product": lambda m, b, e, t, d, f, s: m.metric.inner_product(t, d, b),
    "norm": lambda m, b, e, t, d, f, s: m.metric.norm(t, b),
    "normalize": lambda m, b, e, t, d, f, s: m.metric.normalize(t, b),
    "random_unit_tangent_vec": lambda m, b, e, t, d, f, s: m.metric.random_unit_tangent_vec(b),
    "riemannian_gradient": lambda m, b, e, t, d, f, s: m.metric.riemannian_gradient(e, b),
    "exp": lambda m, b, e, t, d, f, s: m.metric.exp(t, b),
    "geodesic": lambda m, b, e, t, d, f, s: m.metric.geodesic(b, initial_tangent_vec=t)(0.5),
    "polar_retraction": lambda m, b, e, t, d, f, s: m.metric.polar_retraction(t, b),
    "qr_retraction": lambda m, b, e, t, d, f, s: m.metric.qr_retraction(t, b),
    "sectional_curvature": lambda m, b, e, t, d, f, s: m.metric.sectional_curvature(t, d, b),
    "injectivity_radius": lambda m, b, e, t, d, f, s: m.metric.injectivity_radius(b),
}
# These look at values to decide when to stop, so that they run on tensors with values only.
DECIDING_FUNCTIONS = {
    "solve_flag_logarithm": lambda b, e, t, d, f, s: (
        manifolds.solve_flag_logarithm(e, b, DIMS, n_restarts=2).tangent_vec
    ),
    "pairwise_geodesic_distance": lambda b, e, t, d, f, s: manifolds.pairwise_geodesic_distance([b, e, b]),
    "pairwise_chordal_distance": lambda b, e, t, d, f, s: manifolds.pairwise_chordal_distance([b, e, b]),
    "relative_position": lambda b, e, t, d, f, s: manifolds.relative_position(b, e, DIMS, DIMS).double_coset,
    "is_opposite": lambda b, e, t, d, f, s: manifolds.relative_position(b, e, DIMS, DIMS).is_opposite(),
    "schubert_position": lambda b, e, t, d, f, s: manifolds.schubert_position(b, f) and b,
    "subspace_sum": lambda b, e, t, d, f, s: manifolds.subspace_sum(b, e),
    "subspace_intersection": lambda b, e, t, d, f, s: manifolds.subspace_intersection(b, e),
    "singular_subspace_error": lambda b, e, t, d, f, s: manifolds.singular_subspace_error(
        torch.linalg.svdvals(b + e), 2, (8, 3)
    ),
    "chordal_mean": lambda b, e, t, d, f, s: manifolds.chordal_mean(s, DIMS).point,
    "chordal_median": lambda b, e, t, d, f, s: manifolds.chordal_median(s, DIMS).point,
    "frechet_mean": lambda b, e, t, d, f, s: manifolds.frechet_mean(s, DIMS).point,
}
DECIDING_METHODS = {
    "log": lambda m, b, e, t, d, f, s: m.metric.log(e, b),
    "dist": lambda m, b, e, t, d, f, s: m.metric.dist(e, b),
    "squared_dist": lambda m, b, e, t, d, f, s: m.metric.squared_dist(e, b),
    "dist_pairwise": lambda m, b, e, t, d, f, s: m.metric.dist_pairwise(s),
    "parallel_transport": lambda m, b, e, t, d, f, s: m.metric.parallel_transport(t, b, direction=d),
    "parallel_transport to a point": lambda m, b, e, t, d, f, s: m.metric.parallel_transport(t, b, end_point=e),
}


def on_both_spaces(methods):
    return {
        f"{name} on a {kind}": lambda *a, method=method, space=space: method(space, *a)
        for name, method in methods.items()
        for kind, space in SPACES.items()
    }


SHAPE_CALLS = FUNCTIONS | on_both_spaces(METHODS)
CALLS = SHAPE_CALLS | DECIDING_FUNCTIONS | on_both_spaces(DECIDING_METHODS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CALLS)
def test_no_constant_on_the_default_device_or_in_the_default_dtype(name, dtype):
    given = arguments(dtype)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if dtype == torch.float32 else torch.float32)
    try:
        with torch.device("meta"):
            result = CALLS[name](*given)
    finally:
        torch.set_default_dtype(before)
    assert result.device.type == "cpu"
    assert result.dtype in (dtype, torch.bool, torch.int64)


@pytest.mark.parametrize("name", SHAPE_CALLS)
def test_shapes_can_be_computed_on_the_meta_device(name):
    given = arguments(torch.float64)
    expected = SHAPE_CALLS[name](*given)
    result = SHAPE_CALLS[name](*[tensor.to("meta") for tensor in given])
    assert result.device.type == "meta"
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)


def test_every_public_name_is_covered():
    plain = {"abs_cosine_moments", "largest_cosine_edge", "largest_cosine_p_value", "overlap_moments"}
    plain |= {"overlap_p_value", "overlap_z"}  # functions of numbers
    covered = {name.split()[0] for name in CALLS}
    functions = {name for name in manifolds.__all__ if name[0].islower()}
    assert functions - plain - covered == set()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", CALLS)
def test_an_accelerator_gives_what_the_processor_gives(name):
    if "random" in name or "uniform" in name:
        pytest.skip("draws differ between devices")
    given = arguments(torch.float64)
    result = CALLS[name](*[tensor.cuda() for tensor in given])
    assert result.device.type == "cuda"
    # Frames and bases may differ in sign; what they span does not.
    expected = CALLS[name](*given)
    if result.is_floating_point() and result.ndim == 2 and name in ("subspace_sum", "orthogonal_complement"):
        result, expected = result @ result.mT, expected @ expected.mT
    torch.testing.assert_close(result.cpu(), expected, atol=1e-9, rtol=0)


def test_generators_are_followed():
    flags = Flag(8, DIMS)
    base = flags.random_point(generator=generator(0), dtype=torch.float64)
    first, second = (flags.random_tangent_vec(base, generator=generator(1)) for _ in range(2))
    assert torch.equal(first, second)
