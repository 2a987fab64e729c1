"""Small modules to watch."""

import torch
from torch import nn

from tests.builders import tiny_llama


def module_of(tensors):
    """A module whose parameters have these names; it computes nothing."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        place = root
        for part in path:
            if part not in dict(place.named_children()):
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        place.register_parameter(last, nn.Parameter(tensor.detach().clone()))
    return root


def assign(module, tensors):
    """Write numbers into the parameters of these names, in place as an optimizer does."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)


def llama(seed=0):
    return module_of({name: tensor.double() for name, tensor in tiny_llama(seed=seed).items()})


def weight(module, layer, name):
    block = {"up": "mlp", "gate": "mlp", "down": "mlp"}.get(name, "self_attn")
    return module.get_parameter(f"model.layers.{layer}.{block}.{name}_proj.weight")


class Residual(nn.Module):
    """A network of no known type with dropout and a batch norm, all of whose layers write to one stream."""

    def __init__(self, width=24, depth=3):
        super().__init__()
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x):
        for layer in self.inner:
            x = x + self.dropout(torch.relu(layer(x)))
        return self.norm(x)


def trained(module, watch=None, *, steps=8, accumulate=1, seed=3):
    """Train a `Residual` for some steps, calling `watch` after each, and return what it computed on the way."""
    torch.manual_seed(seed)
    data = torch.randn(16, 24, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(accumulate):
            loss = (module(data) - data.flip(0)).square().mean()
            loss.backward()
            losses.append(loss.item())
        optimizer.step()
        if watch is not None:
            watch()
    return losses
