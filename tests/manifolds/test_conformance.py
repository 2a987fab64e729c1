"""geomstats' own test cases on our manifolds.

A name in a data class below selects the test of that name in geomstats; what it returns says how often and on
how many points it runs. geomstats repeats failing tests by default; here each runs once.
"""

import pytest
import torch

from manifolds.backend import import_geomstats
from manifolds.checks import block_slices
from manifolds.flag import Flag
from manifolds.grassmannian import Grassmannian

TestData = import_geomstats("geomstats.test.data").TestData
EmbeddedSpaceRandomDataGenerator = import_geomstats("geomstats.test.random").EmbeddedSpaceRandomDataGenerator
DataBasedParametrizer = import_geomstats("geomstats.test.parametrizers").DataBasedParametrizer
LevelSetTestCase = import_geomstats("geomstats.test_cases.geometry.base").LevelSetTestCase
RiemannianMetricTestCase = import_geomstats("geomstats.test_cases.geometry.riemannian_metric").RiemannianMetricTestCase

SPACES = [
    Flag(5, (2,)),
    Flag(6, (1, 2, 3)),
    Flag(7, (2, 4, 6)),  # n < 2k
    Flag(12, (1, 4)),
    Grassmannian(5, 2),
    Grassmannian(6, 4),  # n < 2k
]


@pytest.fixture(autouse=True)
def seeded_float64():
    """geomstats makes its constants in torch's default dtype and its samples from the global generator."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(dtype)


@pytest.fixture(scope="class", params=SPACES, ids=str)
def space(request):
    request.cls.space = request.param


class ComparesPoints:
    """Frames are compared as the flags they stand for: geomstats would compare representatives."""

    def assertAllClose(self, first, second, rtol=1e-6, atol=1e-9):
        first, second = torch.as_tensor(first), torch.as_tensor(second)
        if first.shape[-2:] == self.space.shape and bool(
            (self.space.belongs(first) & self.space.belongs(second)).all()
        ):
            first, second = self.projectors(first), self.projectors(second)
        torch.testing.assert_close(first, second, rtol=rtol, atol=atol)

    def projectors(self, point):
        return torch.stack([point[..., block] @ point[..., block].mT for block in block_slices(self.space.dims)])


class Data(TestData):
    trials = 1
    N_VEC_REPS = (3,)
    N_SHAPE_POINTS = N_RANDOM_POINTS = (1, 3)
    N_TIME_POINTS = (1, 2)


def data(kind, *names):
    """Data methods of one kind for tests of these names."""
    return {f"{name}_test_data": lambda self: getattr(self, f"generate_{kind}")() for name in names}


SpaceData = type(
    "SpaceData",
    (Data,),
    data(
        "vec_data",
        *("belongs_vec", "is_tangent_vec", "to_tangent_vec", "regularize_vec"),
        *("projection_vec", "submersion_vec", "tangent_submersion_vec"),
    )
    | data(
        "random_data",
        *("not_belongs", "random_point_belongs", "to_tangent_is_tangent"),
        *("regularize_belongs", "random_tangent_vec_is_tangent", "projection_belongs"),
    )
    | data("shape_data", "random_point_shape", "random_tangent_vec_shape"),
)

MetricData = type(
    "MetricData",
    (Data,),
    data(
        "vec_data",
        *("exp_vec", "log_vec", "inner_product_vec", "squared_norm_vec", "norm_vec", "normalize_vec"),
        *("dist_vec", "squared_dist_vec", "injectivity_radius_vec", "sectional_curvature_vec"),
        *("parallel_transport_ivp_vec", "parallel_transport_bvp_vec"),
    )
    | data(
        "random_data",
        *("exp_belongs", "log_is_tangent", "exp_after_log", "log_after_exp", "exp_geodesic_ivp"),
        *("dist_is_symmetric", "dist_is_positive", "dist_point_to_itself_is_zero", "dist_triangle_inequality"),
        *("dist_is_log_norm", "squared_dist_is_symmetric", "squared_dist_is_positive"),
        *("inner_product_is_symmetric", "norm_is_positive", "normalize_is_unitary", "geodesic_boundary_points"),
        *("parallel_transport_ivp_norm", "parallel_transport_ivp_transported_is_tangent"),
        *("parallel_transport_bvp_norm", "parallel_transport_bvp_transported_is_tangent"),
    )
    | data("vec_data_with_time", "geodesic_ivp_vec", "geodesic_bvp_vec")
    | data("random_data_with_time", "geodesic_ivp_belongs", "geodesic_bvp_belongs", "geodesic_bvp_reverse"),
)


@pytest.mark.usefixtures("space")
class TestSpace(ComparesPoints, LevelSetTestCase, metaclass=DataBasedParametrizer):
    testing_data = SpaceData()


@pytest.mark.usefixtures("space")
class TestMetric(ComparesPoints, RiemannianMetricTestCase, metaclass=DataBasedParametrizer):
    testing_data = MetricData()

    def setup_method(self):
        # Tangent vectors are divided by the amplitude, which keeps them within the injectivity radius.
        self.data_generator = EmbeddedSpaceRandomDataGenerator(self.space, amplitude=10.0)
