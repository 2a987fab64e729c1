"""What results say: each finding is a record with its numbers, and its sentence stands in one place."""

import lazy_loader

# Names stand in the stub, so that what is told of an analysis does not import comparisons and traces.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
