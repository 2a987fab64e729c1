"""Experts with chosen subspaces."""

import torch

from flaggeo.alignment.experts.expert_pairs import Experts
from manifolds import uniform_frame


def experts_of(frames, norms=None):
    """With these frames, of channels of equal norm unless others are given."""
    frames = tuple(frames)
    norms = tuple(torch.ones(len(frame), dtype=frame.dtype) for frame in frames) if norms is None else tuple(norms)
    return Experts(frames, norms, tuple(range(len(frames))))


def uniform(count, n, k, *, seed):
    """Independent uniform frames."""
    generator = torch.Generator().manual_seed(seed)
    return list(uniform_frame(n, k, (count,), generator=generator, dtype=torch.float64).unbind())


def layer_of(kind, n, k, *, seed, count=4):
    """Leading frames and channel norms of a layer's unrelated experts, whose matrices are of one kind."""
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(count, 2 * n, n, generator=generator, dtype=torch.float64)
    if kind == "outlier channels":
        matrices = matrices * torch.tensor([30.0, 20, 15, 10] + [1.0] * (n - 4), dtype=torch.float64)
    elif kind == "common mean":
        matrices = matrices + 1
    elif kind == "alike":  # in each layer on their own
        matrices = matrices[:1] + 0.3 * matrices
    else:
        assert kind == "uniform"
    frames = torch.linalg.svd(matrices).Vh[:, :k].mT
    return experts_of(frames.unbind(), matrices.norm(dim=1).unbind())


KINDS = ("uniform", "outlier channels", "common mean", "alike")
