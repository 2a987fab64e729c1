"""Subspaces and flags of a Euclidean space, computed in torch on any device.

These conventions hold throughout the package, and docstrings mention only what goes beyond them.

* A subspace of n-space is given by an orthonormal frame: a tensor of shape ``[..., n, k]``, k <= n, whose columns span
  it. A flag is given by a frame whose leading columns span its subspaces. Two frames of the same subspace or flag give
  the same result, unless the result is itself expressed in the frame.
* Leading axes are batch axes. Those of several arguments broadcast, and the result carries them.
* Tensors are float32 or float64. The tensors of one call share their dtype and device, and the result keeps both.
* Angles, and lengths made of angles, are in radians. Overlaps, sines and cosines are dimensionless.
* A `ValueError` that says what was expected and what was found is raised for a wrong shape or dtype, for arguments that
  do not fit together, and for a frame that is not orthonormal to working precision (see `require_frame`) or holds NaN.
* On the meta device, where tensors have no values, only shapes and dtypes are checked.
"""

import lazy_loader

# Names and types stand in the stub, so that importing this package does not import torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
