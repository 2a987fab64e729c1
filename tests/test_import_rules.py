"""The rules of the house: who may import whom, how large a folder may be, and that importing changes little."""

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import flaggeo


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


def test_no_folder_has_more_modules_than_a_reader_can_take_in():
    folders = [path for path in Path(flaggeo.__file__).parent.rglob("*") if path.is_dir()]
    assert len(folders) > 10
    assert {str(path): count for path in folders if (count := len(list(path.glob("*.py")))) > 14} == {}
