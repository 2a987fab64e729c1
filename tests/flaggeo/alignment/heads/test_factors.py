import pytest
import torch

import flaggeo
from flaggeo.alignment.heads.factors import projection_heads
from tests.builders import CONFIG, HEAD_WIDTH, KEY_VALUE_HEADS, LAYERS, QUERY_HEADS, WIDTH, planted, tiny_llama


def layer_of(tensors, layer=1):
    network = flaggeo.load(tensors, config=CONFIG)
    weights = [weight for weight in network.weights if weight.layer == layer]
    return weights, {weight.name: weight.split(network.checkpoint.read(weight.tensor)) for weight in weights}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_frame_times_factor_is_the_head(dtype):
    weights, matrices = layer_of({name: tensor.to(dtype) for name, tensor in tiny_llama().items()})
    kept_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    reduced = {heads.role: heads for heads in projection_heads(weights, matrices)}
    assert list(reduced) == ["q", "k", "v", "o"]
    for role, heads in reduced.items():
        count = QUERY_HEADS if role in "qo" else KEY_VALUE_HEADS
        assert heads.layer == 1
        assert heads.frames.shape == (count, WIDTH, HEAD_WIDTH)
        assert heads.frames.dtype == heads.factors.dtype == kept_dtype
        tolerance = 100 * torch.finfo(kept_dtype).eps
        identity = torch.eye(HEAD_WIDTH, dtype=kept_dtype).expand(count, -1, -1)
        torch.testing.assert_close(heads.frames.mT @ heads.frames, identity, atol=tolerance, rtol=0)
        for head in range(count):
            matrix = matrices[f"layers.1.{role}.heads.{head}"].to(kept_dtype)
            facing = matrix if role == "o" else matrix.mT
            torch.testing.assert_close(heads.frames[head] @ heads.factors[head], facing, atol=10 * tolerance, rtol=0)


def test_names_are_those_of_the_subspaces():
    reduced = projection_heads(*layer_of(tiny_llama()))
    assert reduced[0].names[:2] == ["layers.1.q.heads.0.read", "layers.1.q.heads.1.read"]
    assert reduced[3].names[-1] == "layers.1.o.heads.3.write"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [0, 1, 4])
def test_directions_of_rounding_belong_to_no_head(rank, dtype):
    weights, matrices = layer_of(tiny_llama())
    values = [1.0, 0.1, 0.01, 1e-3][:rank]
    low, _, row_space = planted(values, HEAD_WIDTH, WIDTH, seed=2)
    matrices["layers.1.k.heads.1"] = low.to(dtype)
    matrices["layers.1.k.heads.0"] = matrices["layers.1.k.heads.0"].to(dtype)
    keys = [weight for weight in weights if weight.role == "k"]
    frame = projection_heads(keys, matrices)[0].frames[1]
    assert frame.any(dim=0).tolist() == [True] * rank + [False] * (HEAD_WIDTH - rank)
    projector = frame.double() @ frame.double().mT
    torch.testing.assert_close(
        projector, row_space @ row_space.mT, atol=1e-3 if dtype == torch.float32 else 1e-9, rtol=0
    )


def test_heads_wider_than_the_stream():
    weights, matrices = layer_of(tiny_llama())
    wide = {name: torch.randn(7, 5) for name in matrices}
    heads = projection_heads([weight for weight in weights if weight.role == "q"], wide)[0]
    assert heads.frames.shape == (QUERY_HEADS, 5, 5)
    assert heads.factors.shape == (QUERY_HEADS, 5, 7)


def test_whole_projections_and_tables_are_passed_over():
    network = flaggeo.load(tiny_llama(), config=CONFIG)
    assert projection_heads([weight for weight in network.weights if weight.head is None], {}) == []
    assert sum(weight.head is not None for weight in network.weights) == LAYERS * 12
