import pytest
import torch

from flaggeo import load
from flaggeo.alignment import layer_chains
from flaggeo.alignment.chance.norm_matched import norm_matched


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def reached_norms(rows, columns):
    """Largest relative error of the row norms and of the column norms of a surrogate."""
    surrogate = norm_matched(rows, columns, seeded(0)).double()
    return [
        float((surrogate.norm(dim=dim) / norms.double() - 1).abs().max()) for dim, norms in ((1, rows), (0, columns))
    ]


@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e15])
def test_four_rounds_reach_norms_like_those_of_trained_weights(scale):
    """Norms spread over a factor of three, and one channel five times louder."""
    rows, columns = (torch.exp(0.2 * torch.randn(size, generator=seeded(size))) for size in (576, 1536))
    rows[3] *= 5
    columns *= torch.linalg.norm(rows) / torch.linalg.norm(columns)
    assert max(reached_norms(scale * rows, scale * columns)) < 1e-4


def test_four_rounds_reach_the_norms_of_a_trained_weight(minilm_folder):
    """The writings of the MLPs of MiniLM, in which one channel of 384 leads, are the hardest there."""
    network = load(minilm_folder)
    for weight in layer_chains(network.weights)["down"]:
        matrix = weight.split(network.checkpoint.read(weight.tensor))
        assert max(reached_norms(matrix.norm(dim=1), matrix.norm(dim=0))) < 1e-4


def test_rescaling_the_scales_is_rescaling_the_matrix():
    """The rounds act on two vectors; done on the matrix itself they give the same."""
    rows, columns = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([1.5, 1.5, 0.75**0.5])
    matrix = torch.randn(3, 3, generator=seeded(5)).double()
    for _ in range(4):
        matrix = matrix / matrix.norm(dim=0) * columns
        matrix = matrix / matrix.norm(dim=1, keepdim=True) * rows[:, None]
    torch.testing.assert_close(norm_matched(rows, columns, seeded(5)).double(), matrix, rtol=1e-5, atol=1e-6)


def test_the_surrogate_of_a_zero_matrix_is_zero():
    assert torch.equal(norm_matched(torch.zeros(3), torch.zeros(2), seeded(0)), torch.zeros(3, 2))
