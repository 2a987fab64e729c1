"""One stream of random numbers for each seed and purpose."""

from hashlib import sha256

import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator on the CPU, so that every device sees the same numbers.

    Streams of different purposes have nothing in common: another batch size changes no weight, and cells that differ
    in one cause begin with the same weights, data and batches.
    """
    digest = sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
