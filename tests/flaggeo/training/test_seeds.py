"""Streams of random numbers, by seed and purpose."""

import torch

from flaggeo.training.seeds import generator


def drawn(seed, purpose):
    return tuple(torch.rand(4, generator=generator(seed, purpose)).tolist())


def test_streams_are_the_same_again_and_differ_by_seed_and_purpose():
    assert drawn(1, "weights") == drawn(1, "weights")
    assert len({drawn(seed, purpose) for seed in range(20) for purpose in ("weights", "data", "batches")}) == 60
