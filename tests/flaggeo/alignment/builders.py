"""Pairs of weights and of heads, changes of basis of the space between them, and what the tables are made of."""

import torch

from flaggeo.alignment import Interface, LayerPair, ProjectionHeads, interface_pair
from flaggeo.alignment.interfaces.leading_directions import LeadingDirections
from flaggeo.alignment.observable import Observable
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum


def gaussian(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_pair(d, n, p, *, seed):
    """W_1 of shape [d, n] and W_2 of shape [p, d]."""
    return gaussian(d, n, seed=2 * seed), gaussian(p, d, seed=2 * seed + 1)


def part_of(observable: Observable, pair: Interface):
    """What the observable is made of: the two whole weights, or their leading directions."""
    return pair.leading if observable.pair is LeadingDirections else pair


def measured(observable: Observable, first, second, rank=4):
    return observable.measure(part_of(observable, interface_pair(first, second, rank)))


def rotation(d, *, seed):
    return torch.linalg.qr(gaussian(d, d, seed=seed)).Q


def moved(first, second, g):
    """The same network in another basis of the hidden space."""
    return g @ first, second @ torch.linalg.inv(g)


def signed_permutation(d, *, seed):
    generator = torch.Generator().manual_seed(seed)
    signs = 1.0 - 2 * torch.randint(0, 2, (d,), generator=generator)
    return torch.eye(d, dtype=torch.float64)[torch.randperm(d, generator=generator)] * signs


def positive_diagonal(d, *, seed):
    return torch.diag(gaussian(d, seed=seed).exp())


def grams(first, second):
    """The two d x d Gram matrices, which the package never forms."""
    return first @ first.mT, second.mT @ second


def gaussian_heads(layers, heads, n, width, *, seed, dtype=torch.float32):
    """Heads with independent standard normal entries, without grouped queries."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for layer in range(layers):
        for role in "qkvo":
            entries = torch.randn(heads, n, width, generator=generator, dtype=dtype)
            found.append(ProjectionHeads(layer, role, *torch.linalg.qr(entries)))
    return found


def layer_pair(first, second, side=Side.READ, *, rank=4):
    """A weight in two layers."""
    return LayerPair(leading_spectrum(first, rank), leading_spectrum(second, rank), side)


def matrices(network):
    return {weight.name: weight.split(network.checkpoint.read(weight.tensor)) for weight in network.weights}


def spectra_of(network, rank=4):
    return {name: leading_spectrum(matrix, rank) for name, matrix in matrices(network).items()}
