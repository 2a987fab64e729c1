import numpy as np
import pytest
import scipy.stats
import torch

from manifolds.haar import uniform_frame
from manifolds.largest_cosine import _tracy_widom_tail, largest_cosine_edge, largest_cosine_p_value

from .builders import generator

SAMPLES = 20000


@pytest.mark.parametrize(("n", "r", "s"), [(64, 8, 8), (100, 20, 40), (50, 1, 7), (20, 3, 4)])
def test_law_of_the_largest_cosine(n, r, s):
    frames = uniform_frame(n, r, (SAMPLES,), generator=generator(1), dtype=torch.float64)
    cosines = torch.linalg.svdvals(frames[:, :s])[:, 0].numpy()
    p_values = largest_cosine_p_value(cosines, n, r, s)
    assert scipy.stats.kstest(p_values, "uniform").statistic < (0.014 if 1 in (r, s) else 0.04)
    # On the safe side in the tail.
    assert 0.035 < np.mean(p_values < 0.05) < 0.055
    if 1 not in (r, s):
        assert cosines.mean() < largest_cosine_edge(n, r, s) < cosines.max()
    np.testing.assert_allclose(largest_cosine_p_value(cosines[:5], n, s, r), p_values[:5])


def test_tracy_widom_quantiles():
    """Johnstone's table of the orthogonal ensemble, through the law of the largest cosine."""
    quantiles, tails = [-3.8954, -1.2686, 0.4501, 0.9793, 2.0234], [0.99, 0.50, 0.10, 0.05, 0.01]
    np.testing.assert_allclose(_tracy_widom_tail(np.array(quantiles)), tails, atol=5e-5)


def test_published_edges():
    for dimensions, edge in {(768, 64, 64): 0.5528, (512, 64, 128): 0.774, (200, 20, 50): 0.748}.items():
        assert largest_cosine_edge(*dimensions) == pytest.approx(edge, abs=5e-4)
    assert largest_cosine_edge(10, 5, 5) == largest_cosine_edge(10, 8, 5) == 1


def test_dimensions_out_of_range_are_refused():
    with pytest.raises(ValueError, match="dimension 1 to n = 4; got 0, 1"):
        largest_cosine_edge(4, 0, 1)
    with pytest.raises(ValueError, match="r \\+ s below n = 4; got r = 2 and s = 2"):
        largest_cosine_p_value(0.5, 4, 2, 2)
