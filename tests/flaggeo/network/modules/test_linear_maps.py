"""Which parameter a call applies, and which part of it."""

import pytest
import torch
from torch import nn

from flaggeo.network.modules.linear_maps import LinearMap, Parameters


@pytest.fixture
def module():
    module = nn.Module()
    module.square = nn.Parameter(torch.randn(6, 6))
    module.tall = nn.Parameter(torch.randn(12, 4))
    module.kernel = nn.Parameter(torch.randn(5, 3, 2, 2))
    module.up = nn.Parameter(torch.randn(3, 5, 2, 2))
    module.register_buffer("constant", torch.randn(4, 12))
    return module


def find(module, function, *arguments, **named):
    call = Parameters(module).find_call(function, arguments, named)
    return None if call is None else call.writes


def test_matrices_are_known_whole_transposed_and_in_rows(module):
    x, y = torch.zeros(2, 4), torch.zeros(2, 6)
    assert find(module, "linear", x, module.tall) == LinearMap("tall", 4, 12)
    assert find(module, "linear", x, module.tall[3:7]) == LinearMap("tall", 4, 4, rows=(3, 7))
    assert find(module, "matmul", x, module.tall.T) == LinearMap("tall", 4, 12)
    assert find(module, "linear", y, module.square.T) == LinearMap("square", 6, 6, transposed=True)
    assert find(module, "__matmul__", y, module.square) == LinearMap("square", 6, 6, transposed=True)
    assert find(module, "addmm", torch.zeros(6), y, module.square) == LinearMap("square", 6, 6, transposed=True)
    assert find(module, "linear", x, bias=None, weight=module.tall) == LinearMap("tall", 4, 12)
    assert find(module, "linear", x, module.tall[:, ::2]) is None
    assert find(module, "linear", x, torch.randn(12, 4)) is None


def test_kernels_tables_and_buffers(module):
    image = torch.zeros(1, 3, 4, 4)
    assert find(module, "conv2d", image, module.kernel) == LinearMap("kernel", 3, 5, kernel=4)
    assert find(module, "conv_transpose2d", image, module.up) == LinearMap("up", 3, 5, kernel=4, transposed=True)
    assert find(module, "conv2d", image, module.kernel, None, 1, 0, 1, 3) is None  # in groups of channels
    assert find(module, "embedding", torch.tensor([1]), module.tall) == LinearMap(
        "tall", 12, 4, transposed=True, is_table=True
    )
    parameters = Parameters(module)
    assert parameters.name(module.constant[1]) == "constant"
    assert "constant" not in parameters.learned
    assert parameters.name(torch.zeros(3)) is None


def test_channels_of_images_stand_before_their_positions(module):
    parameters = Parameters(module)
    call = parameters.find_call("conv2d", (torch.zeros(1, 3, 4, 4), module.kernel), {})
    assert (call.axis, call.readings[0].axis) == (-3, -3)
    call = parameters.find_call("linear", (torch.zeros(2, 4), module.tall), {})
    assert (call.axis, call.readings[0].axis) == (-1, -1)


@pytest.mark.parametrize("separate", [False, True])
def test_an_attention_is_four_maps(separate):
    attention = nn.MultiheadAttention(8, 2, kdim=6 if separate else None, vdim=5 if separate else None)
    query, key, value = torch.zeros(3, 8), torch.zeros(4, 6 if separate else 8), torch.zeros(4, 5 if separate else 8)
    arguments = [query, key, value, 8, 2, attention.in_proj_weight, None, None, None, False, 0.0]
    arguments += [attention.out_proj.weight, attention.out_proj.bias]
    named = {"use_separate_proj_weight": separate}
    named |= {f"{part}_proj_weight": getattr(attention, f"{part}_proj_weight") for part in "qkv"}
    call = Parameters(attention).find_call("multi_head_attention_forward", arguments, named)
    assert call.heads == 2
    assert call.writes == LinearMap("out_proj.weight", 8, 8)
    found = [reading.map for reading in call.readings]
    if separate:
        assert found == [LinearMap(f"{part}_proj_weight", n, 8) for part, n in zip("qkv", (8, 6, 5), strict=True)]
    else:
        assert found == [LinearMap("in_proj_weight", 8, 8, rows=(start, start + 8)) for start in (0, 8, 16)]
    assert [reading.source for reading in call.readings] == [query, key, value]
