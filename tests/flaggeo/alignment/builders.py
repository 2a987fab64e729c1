"""Pairs of composable weights, and changes of basis of the space between them."""

import torch

from flaggeo.alignment import interface_pair
from flaggeo.alignment.observable import Observable


def gaussian(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_pair(d, n, p, *, seed):
    """W_1 of shape [d, n] and W_2 of shape [p, d]."""
    return gaussian(d, n, seed=2 * seed), gaussian(p, d, seed=2 * seed + 1)


def measured(observable: Observable, first, second, rank=4):
    return observable.measure(interface_pair(first, second, rank))


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
