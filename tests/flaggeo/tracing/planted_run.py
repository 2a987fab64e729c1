"""A run whose up projections turn their first reading direction towards a common one, by known angles."""

import math

import torch
from torch import Tensor

from tests.builders import LAYERS, WIDTH, random_frame, tiny_llama

STEPS = (0, 100, 200, 900, 1000)
SHARES = (0.0, 0.2, 0.6, 0.9, 1.0)
# First reading directions at the start, one a layer, and the direction that they all end on: orthonormal.
_AXES = random_frame(WIDTH, WIDTH, seed=7)
COMMON = _AXES[:, 0]


def direction(layer: int, share: float) -> Tensor:
    """First reading direction of a layer once it has gone this share of the right angle to the common one."""
    angle = share * math.pi / 2
    return math.cos(angle) * _AXES[:, 1 + layer] + math.sin(angle) * COMMON


def checkpoint(share: float) -> dict[str, Tensor]:
    """State dict of the run at one of its steps; everything but the first reading direction of up stays."""
    tensors = tiny_llama()
    for layer in range(LAYERS):
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        left = random_frame(tensors[name].shape[0], WIDTH, seed=layer)
        angle = share * math.pi / 2
        turned = _AXES.clone()
        turned[:, 0] = math.cos(angle) * COMMON - math.sin(angle) * _AXES[:, 1 + layer]
        turned[:, 1 + layer] = direction(layer, share)
        # What makes room for the common direction comes last, so that the leading subspaces turn as well.
        order = [1 + layer, *(column for column in range(1, WIDTH) if column != 1 + layer), 0]
        values = torch.linspace(10, 1, WIDTH, dtype=torch.float64)
        tensors[name] = (left * values) @ turned[:, order].mT
    return tensors
