"""Subspaces of many kinds, the law of their overlaps over random signs, and how often it rejects."""

import numpy as np
import torch

from flaggeo.alignment.chance.sign_flip import leverages, sign_flip_spread
from flaggeo.alignment.chance.sign_flip_law import SignFlipLaw, sign_flip_law
from manifolds import projection_overlap

LEVELS = (0.05, 0.01, 1e-3, 1e-4)


def moments(first, second):
    """Mean and standard deviation over random signs, before division by the smaller rank."""
    return float(leverages(first) @ leverages(second)), float(sign_flip_spread([first, second])[0][0, 1])


def without_diagonal(matrix):
    """The same with zeros on the diagonal."""
    return matrix - matrix.diagonal().diag()


def law_of_pair(first, second, overlap) -> SignFlipLaw:
    """As if this overlap had been measured: at 1 the law is always the precise one."""
    return law_of_flips(first, second[None], np.array([overlap]))


def law_of_flips(first, flipped, overlaps) -> SignFlipLaw:
    """Of one subspace with another under many signs of its coordinates, shape=[draws, n, s]: the moments are one."""
    smaller = float(min(first.shape[1], flipped.shape[2]))
    spread, largest_part = (of_both[0, 1] for of_both in sign_flip_spread([first, flipped[0]]))
    of_all = leverages(first) @ leverages(flipped[0]), spread, largest_part
    same = tuple(np.full(len(flipped), float(number) / smaller) for number in of_all)
    places = np.zeros(len(flipped), dtype=np.int64), np.arange(1, len(flipped) + 1)
    return sign_flip_law([first, *flipped], places, overlaps, same, np.full(len(flipped), smaller))


def entries(kind, n, k, rng):
    """A matrix whose columns span a subspace of this kind; scales of channels are the same for all of one n."""
    normal, channels = rng.standard_normal((n, k)), np.random.default_rng(n)
    if kind == "outlier channels":
        return normal * np.append([30, 20, 15, 10], np.ones(n - 4))[:, None]
    if kind == "lognormal channels":
        return normal * np.exp(channels.standard_normal(n))[:, None]
    if kind == "Student t 1.5":
        return rng.standard_t(1.5, (n, k))
    if kind == "one narrow line":
        # One direction on 40 coordinates among others on all: one eigenvalue far above the rest, no large coordinate.
        return np.column_stack([np.append(np.sign(normal[:40, 0]), np.zeros(n - 40)), normal[:, 1:]])
    if kind.startswith("lines on"):
        count = int(kind.split()[2])
        lines = 0.02 * normal
        for column in range(k):
            lines[np.arange(count) + count * column, column] += 1
        return lines
    assert kind == "uniform"
    return normal


def unrelated_pair(kind, n, r, s, rng):
    """Orthonormal frames of two independent matrices of one kind."""
    return [torch.from_numpy(np.linalg.qr(entries(kind, n, k, rng))[0]).float() for k in (r, s)]


def flips(frame, draws, rng):
    """The frame under many signs of its coordinates, shape=[draws, n, s]."""
    return torch.from_numpy(2.0 * rng.integers(0, 2, (draws, len(frame), 1)) - 1).float() * frame


def unrelated_p_values(kind, n, r, s, *, pairs, draws):
    """P-values of unrelated pairs of one kind, each under many signs, shape=[pairs, draws]."""
    rng = np.random.default_rng([0, n, r, s])
    p_values = np.empty((pairs, draws))
    for of_pair in p_values:
        first, second = unrelated_pair(kind, n, r, s, rng)
        flipped = flips(second, draws, rng)
        overlaps = projection_overlap(first, flipped).double().numpy()
        of_pair[:], floor = law_of_flips(first, flipped, overlaps).p_value(overlaps)
        assert (floor <= of_pair).all()
    return p_values
