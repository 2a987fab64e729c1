"""Marks of geomstats' own test cases, which test_conformance.py runs on our manifolds."""

GEOMSTATS_MARKS = ("ignore", "mathprop", "random", "redundant", "shape", "smoke", "type", "validation", "vec")


def pytest_configure(config):
    for mark in GEOMSTATS_MARKS:
        config.addinivalue_line("markers", f"{mark}: set by geomstats' test cases")


def pytest_collection_modifyitems(config, items):
    """Leave out the inherited tests that geomstats' metaclass found no data for."""
    ignored = [item for item in items if item.get_closest_marker("ignore")]
    config.hook.pytest_deselected(items=ignored)
    items[:] = [item for item in items if not item.get_closest_marker("ignore")]
