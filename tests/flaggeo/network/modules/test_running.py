"""How modules are run, and what is in their inputs and outputs."""

from dataclasses import dataclass

import torch
from torch import nn

from flaggeo.network.modules.running import evaluating, plain_name, replaced, tensors_in


@dataclass
class Output:
    logits: torch.Tensor
    loss: None = None


def test_tensors_are_found_in_whatever_holds_them():
    a, b, c, d = map(torch.tensor, range(4))
    assert [int(tensor) for tensor in tensors_in([a, {"x": (b, 3)}, Output(c), None, [[d]]])] == [0, 1, 2, 3]


def test_inputs_are_replaced_in_their_places():
    one = torch.ones(1)
    places, names = replaced(((one, [one, "mask"]), {"x": {"y": one}, "n": 3}), lambda tensor: tensor + 1)
    assert places == (torch.full((1,), 2.0), [torch.full((1,), 2.0), "mask"])
    assert names == {"x": {"y": torch.full((1,), 2.0)}, "n": 3}


def test_modules_come_out_of_evaluation_as_they_went_in():
    module = nn.Sequential(nn.Dropout(), nn.Linear(2, 2).eval())
    with evaluating(module):
        assert not any(inner.training for inner in module.modules())
        assert not torch.is_grad_enabled()
    assert [inner.training for inner in module.modules()] == [True, True, False]


def test_operators_and_operations_in_place_have_plain_names():
    functions = [torch.Tensor.__iadd__, torch.relu_, torch.nn.functional.gelu, torch.Tensor.T.__get__]
    assert [plain_name(function) for function in functions] == ["iadd", "relu", "gelu", "T"]
    assert plain_name(torch.Tensor.__matmul__) == "__matmul__"
