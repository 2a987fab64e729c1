"""The rules of the house: who may import whom, and that importing costs and changes little."""

import subprocess
import sys

import pytest
from importlinter.cli import lint_imports


def test_imports_go_down_only():
    assert lint_imports(config_filename="pyproject.toml", cache_dir=None) == 0


@pytest.mark.parametrize(
    ("package", "heavy"),
    [
        ("flaggeo", {"torch", "geomstats", "networkx", "sympy", "pandas"}),
        ("manifolds", {"torch", "geomstats", "scipy"}),
        ("proofs", {"torch", "numpy", "scipy", "geomstats", "networkx", "pandas"}),
    ],
)
def test_importing_a_package_loads_nothing_heavy(package, heavy):
    code = f"import sys, {package}; print(*set(sys.modules) & {heavy!r})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert loaded == []


GLOBAL_STATE = """
import os, torch
def state():
    # joblib and scikit-learn, which geomstats imports, set guards of the OpenMP runtime.
    settings = {name: value for name, value in os.environ.items() if not name.startswith("KMP_")}
    return torch.get_default_dtype(), torch.get_num_threads(), settings
before = state()
import flaggeo, manifolds
manifolds.Flag(5, (1, 3))
flaggeo.leading_spectrum(torch.ones(3, 2), 1)
manifolds.overlap_moments(4, 1, 1)
assert state() == before
"""


def test_using_flaggeo_changes_no_global_state():
    subprocess.run([sys.executable, "-c", GLOBAL_STATE], check=True)
