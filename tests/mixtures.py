"""Small mixtures of experts with known contents, under the names of Mixtral."""

import torch
from torch import Tensor

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
