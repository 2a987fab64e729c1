"""Alignment watched while a network trains: the monitor, its records, and the callbacks of training libraries."""

import lazy_loader

# Names stand in the stub, so that what reads records imports no network, and no callback a library of training.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
