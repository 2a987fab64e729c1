"""The identities that flaggeo's measurements rest on, checked symbolically with sympy alone."""

import lazy_loader

# Names and types stand in the stub, so that importing this package does not import sympy.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
