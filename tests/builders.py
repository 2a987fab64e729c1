"""Small checkpoints with known contents. All sizes differ, so that no transposition passes unnoticed."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from flaggeo.network import Space, SpaceKind, Symmetry, Weight
from flaggeo.numerics.spectrum import Spectrum, leading_spectrum

LAYERS, WIDTH, HIDDEN, VOCABULARY = 3, 24, 40, 50
QUERY_HEADS, KEY_VALUE_HEADS, HEAD_WIDTH = 4, 2, 10
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": LAYERS,
    "num_attention_heads": QUERY_HEADS,
    "num_key_value_heads": KEY_VALUE_HEADS,
}

_SHAPES = {
    "self_attn.q_proj": (QUERY_HEADS * HEAD_WIDTH, WIDTH),
    "self_attn.k_proj": (KEY_VALUE_HEADS * HEAD_WIDTH, WIDTH),
    "self_attn.v_proj": (KEY_VALUE_HEADS * HEAD_WIDTH, WIDTH),
    "self_attn.o_proj": (WIDTH, QUERY_HEADS * HEAD_WIDTH),
    "mlp.gate_proj": (HIDDEN, WIDTH),
    "mlp.up_proj": (HIDDEN, WIDTH),
    "mlp.down_proj": (WIDTH, HIDDEN),
}


def tiny_llama(*, layers: int = LAYERS, seed: int = 0) -> dict[str, Tensor]:
    """State dict of a Llama-style decoder with grouped queries and random weights."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {"model.embed_tokens.weight": torch.randn(VOCABULARY, WIDTH, generator=generator)}
    for layer in range(layers):
        for name, shape in _SHAPES.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = torch.randn(*shape, generator=generator)
        tensors[f"model.layers.{layer}.input_layernorm.weight"] = torch.ones(WIDTH)
    tensors["model.norm.weight"] = torch.ones(WIDTH)
    tensors["lm_head.weight"] = torch.randn(VOCABULARY, WIDTH, generator=generator)
    return tensors


def with_gains(tensors: dict[str, Tensor], *, seed: int = 0) -> dict[str, Tensor]:
    """The same with gains of the norms from 0.2 to 3."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor if tensor.ndim == 2 else 0.2 + 2.8 * torch.rand(len(tensor), generator=generator)
        for name, tensor in tensors.items()
    }


def related_llama(*, layers: int = LAYERS, seed: int = 0) -> dict[str, Tensor]:
    """The same, with a plane of the stream that every weight of a layer faces most."""
    tensors = tiny_llama(layers=layers, seed=seed)
    plane = random_frame(WIDTH, 2, seed=seed).float()
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and "layers" in name:
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            tensors[name] = tensor + 4 * (plane @ plane.mT @ tensor if writes else tensor @ plane @ plane.mT)
    return tensors


def save_folder(folder: Path, tensors: dict[str, Tensor], *, config: dict | None = None, shards: int = 1) -> Path:
    """Write a Hugging Face folder; with several shards, an index too."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if shards == 1:
        save_file(contiguous, folder / "model.safetensors")
        return folder
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(contiguous.items())[shard::shards])
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def random_frame(n: int, rank: int, *, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Orthonormal frame, shape=[n, rank]."""
    gaussian = torch.randn(n, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(gaussian).Q.to(dtype)


def planted(values: list[float], rows: int, columns: int, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrix with these singular values, and its singular vectors: (matrix, left, right)."""
    left, right = random_frame(rows, len(values), seed=seed), random_frame(columns, len(values), seed=seed + 1000)
    return (left * torch.tensor(values, dtype=torch.float64)) @ right.mT, left, right


def chain_of(matrices: list[Tensor], *, rank: int = 4) -> tuple[list[Weight], dict[str, Spectrum]]:
    """One role, ``up``, with these matrices in its layers: it reads the stream and writes hidden spaces."""
    weights = [
        Weight(
            name=f"layers.{layer}.up",
            role="up",
            layer=layer,
            head=None,
            source=Space("stream", SpaceKind.STREAM, matrix.shape[1], Symmetry.ORTHOGONAL),
            target=Space(f"layers.{layer}.hidden", SpaceKind.HIDDEN, matrix.shape[0], Symmetry.PERMUTATION, layer),
            tensor=f"up.{layer}",
        )
        for layer, matrix in enumerate(matrices)
    ]
    return weights, {w.name: leading_spectrum(m, rank) for w, m in zip(weights, matrices, strict=True)}
