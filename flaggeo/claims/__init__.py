"""What the papers claim of training, each claim a record that experiments judge."""

import lazy_loader

# Names stand in the stub, so that the command knows its options without importing torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
