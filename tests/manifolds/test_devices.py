"""Device and dtype follow the arguments, without an accelerator at hand.

A constant made without naming the device lands on torch's default device. Here that default is the meta device,
whose tensors hold no values, while the arguments lie on the CPU: a stray constant makes the operation fail,
or its result lie on the meta device. In the second test the arguments lie on the meta device: a constant on
the CPU fails there.
"""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

import manifolds
from manifolds.backend import import_geomstats  # noqa: F401  # geomstats makes tensors while it is imported
from manifolds.flag import Flag
from manifolds.grassmannian import Grassmannian

from .builders import generator, random_frame, random_tangent

DIMS = (1, 3)
SPECTRUM = (2.0, 1.0, -1.0)


def arguments(dtype):
    base, end = random_frame(8, 3, seed=1), random_frame(8, 3, seed=2)
    tangent, direction = (random_tangent(base, (3,), seed=seed, length=0.5) for seed in (3, 5))
    basis, samples = random_frame(8, 8, seed=6), random_frame(8, 3, seed=7, batch=(4,))
    symmetric = basis * torch.tensor([2.0, 1, 1, -1, -1, -1, -1, -1], dtype=basis.dtype) @ basis.mT
    named = {"base": base, "end": end, "tangent": tangent, "direction": direction, "basis": basis, "samples": samples}
    named["symmetric"] = (symmetric + symmetric.mT) / 2
    return SimpleNamespace(**{name: tensor.to(dtype) for name, tensor in named.items()})


def moved(given, device):
    return SimpleNamespace(**{name: tensor.to(device) for name, tensor in vars(given).items()})


FUNCTIONS = {
    "orthonormalize": lambda x: manifolds.orthonormalize(x.base),
    "polar_factor": lambda x: manifolds.polar_factor(x.base),
    "orthogonal_complement": lambda x: manifolds.orthogonal_complement(x.base),
    "project": lambda x: manifolds.project(x.end, x.base),
    "reject": lambda x: manifolds.reject(x.end, x.base),
    "same_span": lambda x: manifolds.same_span(x.base, x.end),
    "require_frame": lambda x: manifolds.require_frame(x.base, "frame") or x.base,
    "principal_angles": lambda x: manifolds.principal_angles(x.base, x.end),
    "projection_overlap": lambda x: manifolds.projection_overlap(x.base, x.end),
    "chordal_distance": lambda x: manifolds.chordal_distance(x.base, x.end, DIMS),
    "geodesic_distance": lambda x: manifolds.geodesic_distance(x.base, x.end),
    "asimov_distance": lambda x: manifolds.asimov_distance(x.base, x.end),
    "procrustes_distance": lambda x: manifolds.procrustes_distance(x.base, x.end),
    "martin_distance": lambda x: manifolds.martin_distance(x.base, x.end),
    "fubini_study_distance": lambda x: manifolds.fubini_study_distance(x.base, x.end),
    "binet_cauchy_distance": lambda x: manifolds.binet_cauchy_distance(x.base, x.end),
    "plucker_inner_product": lambda x: manifolds.plucker_inner_product(x.base, x.end),
    "pairwise_overlap": lambda x: manifolds.pairwise_overlap([*x.samples, x.base[:, :2]]),
    "pairwise_gram_inner_product": lambda x: manifolds.pairwise_gram_inner_product([x.base], [2 * x.end, x.basis]),
    "pairwise_overlap of wide frames": lambda x: manifolds.pairwise_overlap([x.basis[:, :7], x.basis[:, 1:]]),
    "intersection_dimension": lambda x: manifolds.intersection_dimension(x.base, x.end).dimension,
    "contains": lambda x: manifolds.contains(x.basis, x.end),
    "uniform_frame": lambda x: manifolds.uniform_frame(5, 2, dtype=x.base.dtype, device=x.base.device),
    "to_projector": lambda x: manifolds.to_projector(x.base),
    "from_projector": lambda x: manifolds.from_projector(x.base @ x.base.mT, 3),
    "to_isospectral": lambda x: manifolds.to_isospectral(x.base, DIMS, SPECTRUM),
    "from_isospectral": lambda x: manifolds.from_isospectral(x.symmetric, DIMS, SPECTRUM),
    "nearest_frame": lambda x: manifolds.nearest_frame(x.base, x.end, DIMS),
}
SPACES = {"flag": Flag(8, DIMS), "grassmannian": Grassmannian(8, 3)}
METHODS = {
    "belongs": lambda m, x: m.belongs(x.base),
    "is_tangent": lambda m, x: m.is_tangent(x.tangent, x.base),
    "to_tangent": lambda m, x: m.to_tangent(x.end, x.base),
    "projection": lambda m, x: m.projection(x.base + x.end),
    "regularize": lambda m, x: m.regularize(x.base),
    "submersion": lambda m, x: m.submersion(x.base),
    "tangent_submersion": lambda m, x: m.tangent_submersion(x.tangent, x.base),
    "random_point": lambda m, x: m.random_point(2, dtype=x.base.dtype, device=x.base.device),
    "random_tangent_vec": lambda m, x: m.random_tangent_vec(x.base),
    "inner_product": lambda m, x: m.metric.inner_product(x.tangent, x.direction, x.base),
    "norm": lambda m, x: m.metric.norm(x.tangent, x.base),
    "normalize": lambda m, x: m.metric.normalize(x.tangent, x.base),
    "random_unit_tangent_vec": lambda m, x: m.metric.random_unit_tangent_vec(x.base),
    "riemannian_gradient": lambda m, x: m.metric.riemannian_gradient(x.end, x.base),
    "exp": lambda m, x: m.metric.exp(x.tangent, x.base),
    "geodesic": lambda m, x: m.metric.geodesic(x.base, initial_tangent_vec=x.tangent)(0.5),
    "polar_retraction": lambda m, x: m.metric.polar_retraction(x.tangent, x.base),
    "qr_retraction": lambda m, x: m.metric.qr_retraction(x.tangent, x.base),
    "sectional_curvature": lambda m, x: m.metric.sectional_curvature(x.tangent, x.direction, x.base),
    "injectivity_radius": lambda m, x: m.metric.injectivity_radius(x.base),
}
# These look at values to decide when to stop, so that they run on tensors with values only.
DECIDING_FUNCTIONS = {
    "solve_flag_logarithm": lambda x: manifolds.solve_flag_logarithm(x.end, x.base, DIMS).tangent_vec,
    "pairwise_geodesic_distance": lambda x: manifolds.pairwise_geodesic_distance([x.base, x.end, x.base]),
    "pairwise_chordal_distance": lambda x: manifolds.pairwise_chordal_distance([x.base, x.end, x.base]),
    "relative_position": lambda x: manifolds.relative_position(x.base, x.end, DIMS, DIMS).double_coset,
    "is_opposite": lambda x: manifolds.relative_position(x.base, x.end, DIMS, DIMS).is_opposite(),
    "schubert_position": lambda x: manifolds.schubert_position(x.base, x.basis) and x.base,
    "subspace_sum": lambda x: manifolds.subspace_sum(x.base, x.end),
    "subspace_intersection": lambda x: manifolds.subspace_intersection(x.base, x.end),
    "singular_subspace_error": lambda x: manifolds.singular_subspace_error(
        torch.linalg.svdvals(x.base + x.end), 2, (8, 3)
    ),
    "chordal_mean": lambda x: manifolds.chordal_mean(x.samples, DIMS).point,
    "chordal_median": lambda x: manifolds.chordal_median(x.samples, DIMS).point,
    "frechet_mean": lambda x: manifolds.frechet_mean(x.samples, DIMS).point,
    "select_dims": lambda x: (x.base, manifolds.select_dims(torch.linalg.svdvals(x.base + x.end), 10))[0],
    "flag_pca": lambda x: manifolds.flag_pca(x.basis, DIMS).eigenvalues,
    "flag_mean": lambda x: manifolds.flag_mean([*x.samples, x.base[:, :2]]).eigenvalues,
    "langevin_frame": lambda x: manifolds.langevin_frame(x.base, (2,)),
}
DECIDING_METHODS = {
    "log": lambda m, x: m.metric.log(x.end, x.base),
    "dist": lambda m, x: m.metric.dist(x.end, x.base),
    "squared_dist": lambda m, x: m.metric.squared_dist(x.end, x.base),
    "dist_pairwise": lambda m, x: m.metric.dist_pairwise(x.samples),
    "parallel_transport": lambda m, x: m.metric.parallel_transport(x.tangent, x.base, direction=x.direction),
    "parallel_transport to a point": lambda m, x: m.metric.parallel_transport(x.tangent, x.base, end_point=x.end),
}


def on_both_spaces(methods):
    return {
        f"{name} on a {kind}": partial(method, space)
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
            result = CALLS[name](given)
    finally:
        torch.set_default_dtype(before)
    assert result.device.type == "cpu"
    assert result.dtype in (dtype, torch.bool, torch.int64)


@pytest.mark.parametrize("name", SHAPE_CALLS)
def test_shapes_can_be_computed_on_the_meta_device(name):
    given = arguments(torch.float64)
    expected = SHAPE_CALLS[name](given)
    result = SHAPE_CALLS[name](moved(given, "meta"))
    assert result.device.type == "meta"
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)


def test_every_public_name_is_covered():
    plain = {"abs_cosine_moments", "largest_cosine_edge", "largest_cosine_p_value", "overlap_moments"}
    plain |= {"overlap_p_value", "overlap_z"}  # functions of numbers
    covered = {name.split()[0] for name in CALLS}
    functions = {name for name in manifolds.__all__ if name[0].islower()}
    assert functions - plain - covered == set()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_accelerator_gives_what_the_processor_gives():
    given = arguments(torch.float64)
    for name, call in CALLS.items():
        if "random" in name or name in ("uniform_frame", "langevin_frame"):
            continue  # draws differ between devices
        result, expected = call(moved(given, "cuda")), call(given)
        assert result.device.type == "cuda", name
        if name in ("subspace_sum", "orthogonal_complement", "from_projector", "from_isospectral"):
            # Bases may differ; what they span does not.
            result, expected = result @ result.mT, expected @ expected.mT
        if name in ("chordal_mean", "chordal_median", "frechet_mean"):
            result, expected = (manifolds.to_isospectral(point, DIMS, SPECTRUM) for point in (result, expected))
        torch.testing.assert_close(result.cpu(), expected, atol=1e-9, rtol=0, msg=name)


def test_generators_are_followed():
    flags = Flag(8, DIMS)
    base = flags.random_point(generator=generator(0), dtype=torch.float64)
    first, second = (flags.random_tangent_vec(base, generator=generator(1)) for _ in range(2))
    assert torch.equal(first, second)
