"""Small mixtures of experts with known contents, under the names of Mixtral."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.builders import random_frame

LAYERS, EXPERTS, WIDTH, HIDDEN, VOCABULARY = 3, 4, 32, 12, 40
QUERY_HEADS, KEY_VALUE_HEADS, HEAD_WIDTH = 4, 2, 6
CONFIG = {
    "model_type": "mixtral",
    "num_hidden_layers": LAYERS,
    "num_attention_heads": QUERY_HEADS,
    "num_key_value_heads": KEY_VALUE_HEADS,
    "head_dim": HEAD_WIDTH,
    "num_local_experts": EXPERTS,
    "hidden_act": "silu",
}
#: What Mixtral calls the experts' roles, and the shapes of their matrices.
EXPERT_SHAPES = {"w1": (HIDDEN, WIDTH), "w3": (HIDDEN, WIDTH), "w2": (WIDTH, HIDDEN)}
_ATTENTION = {
    "q_proj": (QUERY_HEADS * HEAD_WIDTH, WIDTH),
    "k_proj": (KEY_VALUE_HEADS * HEAD_WIDTH, WIDTH),
    "v_proj": (KEY_VALUE_HEADS * HEAD_WIDTH, WIDTH),
    "o_proj": (WIDTH, QUERY_HEADS * HEAD_WIDTH),
}


def expert_tensor(layer: int, expert: int, name: str) -> str:
    """Name of the tensor of one expert."""
    return f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{name}.weight"


def tiny_mixtral(*, layers: int = LAYERS, seed: int = 0) -> dict[str, Tensor]:
    """State dict with random weights."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {"model.embed_tokens.weight": torch.randn(VOCABULARY, WIDTH, generator=generator)}
    for layer in range(layers):
        for name, shape in _ATTENTION.items():
            tensors[f"model.layers.{layer}.self_attn.{name}.weight"] = torch.randn(*shape, generator=generator)
        gate = f"model.layers.{layer}.block_sparse_moe.gate.weight"
        tensors[gate] = torch.randn(EXPERTS, WIDTH, generator=generator)
        for expert in range(EXPERTS):
            for name, shape in EXPERT_SHAPES.items():
                tensors[expert_tensor(layer, expert, name)] = torch.randn(*shape, generator=generator)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = torch.ones(WIDTH)
    tensors["model.norm.weight"] = torch.ones(WIDTH)
    tensors["lm_head.weight"] = torch.randn(VOCABULARY, WIDTH, generator=generator)
    return tensors


def facing(frames: Callable[[int, int, str], Tensor], *, layers: int = LAYERS, seed: int = 0) -> dict[str, Tensor]:
    """The same, where each expert faces a subspace of the stream most: of layer, number and name, shape=[WIDTH, k]."""
    tensors = tiny_mixtral(layers=layers, seed=seed)
    for layer in range(layers):
        for expert in range(EXPERTS):
            for place, name in enumerate(EXPERT_SHAPES):
                frame = frames(layer, expert, name).float()
                k = frame.shape[1]
                units = random_frame(HIDDEN, k, seed=1000 * layer + 10 * expert + place).float()
                planted = units * torch.linspace(40, 30, k) @ frame.mT
                tensor = expert_tensor(layer, expert, name)
                tensors[tensor] = 0.1 * tensors[tensor] + (planted.mT if name == "w2" else planted)
    return tensors


def order(layer: int) -> list[int]:
    """In which order the experts of a layer stand that continue those of the layer before: never the same as there."""
    return [(expert + layer * (layer + 1) // 2) % EXPERTS for expert in range(EXPERTS)]


def continued(*, layers: int = LAYERS, rank: int = 4) -> dict[str, Tensor]:
    """Experts that face the same subspaces in every layer, each layer in an `order` of its own."""
    names = list(EXPERT_SHAPES)
    return facing(
        lambda layer, expert, name: random_frame(WIDTH, rank, seed=10 * order(layer)[expert] + names.index(name)),
        layers=layers,
    )
