"""The convolutional network, held against torch's own layers run by run."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from flaggeo.training.continuity import continuity
from flaggeo.training.convolution import ConvNet, reads, writes

SEEDS = (1, 2)
SMALL = ConvNet(side=5, channels=4, depth=3, outputs=6, residual=True, activation="relu")


@pytest.mark.parametrize("residual", [True, False])
def test_every_run_is_the_network_that_torch_makes_of_its_kernels(residual):
    model = replace(SMALL, residual=residual)
    parameters = model.initial(SEEDS)
    images = torch.randn(2, 7, 25, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = model(parameters, images)
    for run in range(2):
        own = {name: tensor[run] for name, tensor in parameters.items()}
        stream = functional.conv2d(images[run].view(7, 1, 5, 5), own["embedding"], own["embedding_bias"], padding=1)
        for kernel in own["blocks"]:
            written = functional.conv2d(stream, kernel, padding=1).relu()
            stream = stream + written if residual else written
        expected = functional.linear(stream.mean(dim=(2, 3)), own["head"], own["head_bias"].flatten())
        assert torch.allclose(found[run], expected)


def test_first_kernels_are_the_same_whatever_the_cause_and_as_torch_draws_them():
    first, other = SMALL.initial(SEEDS), replace(SMALL, residual=False, activation="linear").initial(SEEDS)
    assert all(torch.equal(first[name], other[name]) for name in first)
    bound = replace(SMALL, channels=32).initial([1])["blocks"].abs().max().item()
    assert bound == pytest.approx((9 * 32) ** -0.5, rel=1e-3)


def test_planted_channels_are_read_and_written():
    """Every layer reads one channel, writes one of its own, and has a pattern over the places of its own."""
    stream = torch.Generator().manual_seed(5)
    kernels = torch.zeros(1, 3, 4, 4, 3, 3, dtype=torch.float64)
    for layer in range(3):
        kernels[0, layer, layer, 2] = torch.randn(3, 3, generator=stream, dtype=torch.float64)
    assert (reads(kernels).shape, writes(kernels).shape) == ((1, 3, 36, 4), (1, 3, 4, 36))
    assert continuity(reads(kernels)).read.item() == pytest.approx(1)
    assert continuity(writes(kernels)).write.item() == pytest.approx(0)
    assert 0 < continuity(writes(kernels)).read.item() < 0.9
