"""Inputs that are given in any form, and inputs that are made up."""

import pytest
import torch
from torch import nn

from flaggeo.network.modules.example import NoExampleError, find_inputs
from tests.flaggeo.network.modules.models import MODULES, Autoencoder, Dense, ResNet, seeded


def test_one_tensor_several_or_named_ones():
    one = torch.ones(2)
    module = nn.Identity()
    assert find_inputs(module, one) == ((one,), {})
    assert find_inputs(module, [one, 3]) == ((one, 3), {})
    assert find_inputs(module, {"x": one}) == ((), {"x": one})


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.Linear(7, 3)), (2, 7)),
        (nn.Sequential(nn.ReLU(), nn.Conv1d(4, 3, 5)), (1, 4, 8)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 2)), (1, 3, 28, 28)),
        (nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2)), (1, 5)),
    ],
)
def test_an_input_fits_the_layer_that_reads_it(module, shape):
    (made,), named = find_inputs(module, None)
    assert (tuple(made.shape), named) == (shape, {})
    module(made)


def test_whole_modules_get_an_input():
    for module in (seeded(ResNet), seeded(Autoencoder), seeded(Dense)):
        places, _ = find_inputs(module, None)
        module(*places)
    places, _ = find_inputs(MODULES["seq2seq"]()[0], None)
    assert [made.dtype for made in places] == [torch.long, torch.long]


def test_where_none_can_be_made_up_an_example_is_asked_for():
    for module in (MODULES["raw"]()[0], MODULES["gpt"]()[0], nn.Sequential(nn.Conv2d(3, 2, 300))):
        with pytest.raises(NoExampleError, match="pass example="):
            find_inputs(module, None)
