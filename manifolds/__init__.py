"""Subspaces and flags of a Euclidean space, computed in torch on any device.

A subspace is given by an orthonormal frame: a tensor of shape ``[..., n, k]`` whose columns span it.
Every function keeps the device and the dtype of its frames and takes leading batch axes.
"""

import lazy_loader

# Names and types stand in the stub, so that importing this package does not import torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
