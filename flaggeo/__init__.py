"""Subspace alignment of neural network weights: read from a checkpoint, compared with chance, seen on one page.

A network is a stack of linear maps. flaggeo reads them from disk without running the model, takes the
leading singular subspaces of each, and measures how those that lie in one space are aligned.
"""

import lazy_loader

# Names and types stand in the stub, so that importing this package does not import torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
