"""Frames with known answers, and n x n references that share no code with the package."""

import math

import numpy as np
import scipy.linalg
import torch

from manifolds.checks import block_slices

# Flags of every kind: one block, lines, unequal blocks, more than half of the space, all blocks lines.
SIGNATURES = [(5, (2,)), (6, (1, 2, 3)), (7, (2, 4, 6)), (12, (1, 4)), (4, (1, 2, 3))]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random_frame(n, k, *, seed, batch=(), dtype=torch.float64):
    gaussian = torch.randn(*batch, n, k, generator=generator(seed), dtype=torch.float64)
    return torch.linalg.qr(gaussian).Q.to(dtype)


def planted_pair(n, angles, *, seed):
    """Two frames with these principal angles, rotated at random in the space and in their spans."""
    angles = torch.tensor(angles, dtype=torch.float64)
    k = len(angles)
    axes = random_frame(n, 2 * k, seed=seed)
    first, second = axes[:, :k], axes[:, :k] * angles.cos() + axes[:, k:] * angles.sin()
    return first @ random_frame(k, k, seed=seed + 1), second @ random_frame(k, k, seed=seed + 2)


def hide(frame, dims, *, seed):
    """The same flag by another frame."""
    turns = [
        frame[..., block] @ random_frame(block.stop - block.start, block.stop - block.start, seed=seed + block.start)
        for block in block_slices(dims)
    ]
    return torch.cat(turns, dim=-1)


def projectors(frame, dims):
    """Projectors of the blocks: equal exactly when the flags are."""
    return torch.stack([frame[..., block] @ frame[..., block].mT for block in block_slices(dims)], dim=-3)


def random_tangent(frame, dims, *, seed, length=None):
    """Horizontal vector from the definition: skew, zero in the diagonal blocks, plus a normal part."""
    gaussian = torch.randn(frame.shape, generator=generator(seed), dtype=torch.float64)
    rotation = torch.randn(frame.shape[-1], frame.shape[-1], generator=generator(seed + 1), dtype=torch.float64)
    rotation = rotation - rotation.mT
    for block in block_slices(dims):
        rotation[block, block] = 0
    tangent = frame @ rotation + gaussian - frame @ (frame.mT @ gaussian)
    if length is None:
        return tangent
    norm = math.sqrt(float(lift(tangent, frame).square().sum()) / 2)
    return tangent * (length / norm)


def lift(tangent, frame):
    """Skew n x n matrix Omega with Omega P = D, in the horizontal space; its norm is |Omega|_F / sqrt 2."""
    inside = frame.mT @ tangent
    normal = tangent - frame @ inside
    return frame @ inside @ frame.mT + normal @ frame.mT - frame @ normal.mT


def full_exponential(tangent, frame):
    return torch.from_numpy(scipy.linalg.expm(lift(tangent, frame).numpy())) @ frame


def full_transport(tangent, frame, direction, dims):
    """Parallel transport in so(n): solve Y' = -[X, Y]_m / 2 as one linear system, then move with the geodesic."""
    n, k = frame.shape
    basis = torch.cat([frame, torch.linalg.qr(frame, mode="complete").Q[:, k:]], dim=1).numpy()
    horizontal = np.ones((n, n))
    for block in [*block_slices(dims), slice(k, n)]:
        horizontal[block, block] = 0
    velocity, start = (basis.T @ lift(vector, frame).numpy() @ basis for vector in (direction, tangent))
    units = np.eye(n * n).reshape(-1, n, n)
    system = np.stack([(-0.5 * horizontal * (velocity @ unit - unit @ velocity)).ravel() for unit in units], axis=1)
    end = (scipy.linalg.expm(system) @ start.ravel()).reshape(n, n)
    return torch.from_numpy(basis @ scipy.linalg.expm(velocity) @ end[:, :k])


def invertible(n, *, seed):
    """A general linear map of condition number below 20."""
    left, right = random_frame(n, n, seed=seed), random_frame(n, n, seed=seed + 1)
    return left * torch.linspace(1, 10, n, dtype=torch.float64) @ right
