"""Random streams that do not depend on what was drawn before."""

from hashlib import sha256

import torch


def seeded_generator(seed: int, stream: str, device: torch.device) -> torch.Generator:
    """A stream of its own for every purpose, whatever was drawn before."""
    digest = sha256(f"{seed} {stream}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8]) >> 1)
