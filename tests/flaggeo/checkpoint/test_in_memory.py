import numpy as np
import pytest
import torch
from torch import nn

from flaggeo.checkpoint import CheckpointError, open_checkpoint


def test_a_tied_tensor_is_counted_once_under_its_first_name():
    shared = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    checkpoint = open_checkpoint({"embed": shared, "head": shared, "copy": shared.clone(), "part": shared[:2]})
    assert list(checkpoint.headers) == ["embed", "copy", "part"]
    assert checkpoint.aliases == {"head": "embed"}


def test_a_module_is_read_in_place_without_its_graph():
    module = nn.Linear(3, 2)
    read = open_checkpoint(module).read("weight")
    assert read.data_ptr() == module.weight.data_ptr()
    assert not read.requires_grad


@pytest.mark.parametrize("value", [np.ones(2), [1.0], torch.ones(2, device="meta")])
def test_values_without_numbers_are_refused(value):
    with pytest.raises(CheckpointError, match="state dict: 'a': expected a tensor with numbers, found"):
        open_checkpoint({"a": value})


def test_location_says_what_was_given():
    assert open_checkpoint(nn.Linear(3, 2)).location == "Linear"
    assert open_checkpoint({}).location == "state dict"
