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


DEFAULT_ANALYSIS = """
import sys, torch
from pathlib import Path
before = set(sys.modules)
from flaggeo import analyze, load
from tests.builders import CONFIG, related_llama
folder = Path(sys.argv[1])
analyze(load(related_llama(), config=CONFIG)).save(folder)
print(*set(sys.modules) - before)
"""


def test_a_default_analysis_and_its_page_import_nothing_that_they_do_not_use(tmp_path):
    command = [sys.executable, "-c", DEFAULT_ANALYSIS, str(tmp_path / "result")]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = set(run.stdout.split())
    assert {"flaggeo.analysis", "flaggeo.page.report", "scipy.special"} <= loaded
    scipy = {f"scipy.{part}" for part in ("stats", "optimize", "interpolate", "spatial", "cluster", "sparse", "linalg")}
    others = {"sklearn", "matplotlib", "sympy", "geomstats", "transformers", "vl_convert"}
    assert not loaded & (scipy | others)
    assert not {name for name in loaded if name.startswith(("flaggeo.comparison", "flaggeo.tracing"))}


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
