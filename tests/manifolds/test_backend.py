"""Each case runs in an interpreter of its own: geomstats' backend is fixed at its first import."""

import multiprocessing
import os
import subprocess
import sys
import traceback

import pytest

# Interpreters forked from one that has imported what geomstats needs, but neither geomstats nor this package.
INTERPRETERS = multiprocessing.get_context("forkserver")
INTERPRETERS.set_forkserver_preload(["pytest", "torch", "scipy.interpolate", "scipy.stats", "joblib"])


def execute(code, environment, errors):
    """Run the code and send what it raised, or nothing."""
    assert not {"geomstats", "manifolds"} & set(sys.modules)
    os.environ.pop("GEOMSTATS_BACKEND", None)
    os.environ.update(environment)
    error = ""
    try:
        exec(code, {})
    except Exception:
        error = traceback.format_exc()
    errors.send(error)


def error_of(code, **environment):
    receiver, sender = INTERPRETERS.Pipe(duplex=False)
    with receiver, sender:
        interpreter = INTERPRETERS.Process(target=execute, args=(code, environment, sender))
        interpreter.start()
        sender.close()
        error = receiver.recv()
        interpreter.join()
    return error


def assert_runs(code, **environment):
    assert error_of(code, **environment) == ""


def test_import_leaves_numpy_and_torch_as_they_were():
    code = """
import sys, warnings
warnings.simplefilter("error")
import manifolds
assert not {"geomstats", "torch"} & set(sys.modules), "the package itself is cheap"
import numpy, torch
numpy_names, trapz = set(dir(numpy)), getattr(numpy, "trapz", None)
import manifolds.backend, geomstats.backend
assert geomstats.backend.__name__ == "geomstats.pytorch"
assert torch.get_default_dtype() == torch.float32
assert set(dir(numpy)) == numpy_names and getattr(numpy, "trapz", None) is trapz
import geomstats.learning.frechet_mean
assert torch.get_default_dtype() == torch.float32
try:
    manifolds.backend.import_geomstats("geomstats.no_such_module")
except ModuleNotFoundError:
    pass
assert set(dir(numpy)) == numpy_names and torch.get_default_dtype() == torch.float32
"""
    environment = {name: value for name, value in os.environ.items() if name != "GEOMSTATS_BACKEND"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr


def test_default_dtype_of_the_caller_is_kept():
    assert_runs(
        "import torch; torch.set_default_dtype(torch.float64); import manifolds.backend;"
        "assert torch.get_default_dtype() == torch.float64"
    )


def test_geomstats_imported_first_on_torch():
    assert_runs(
        "import numpy; numpy.trapz = getattr(numpy, 'trapz', None) or numpy.trapezoid;"
        "import geomstats.backend; from manifolds import Flag; assert Flag(3, (1,)).dim == 2",
        GEOMSTATS_BACKEND="pytorch",
    )


def test_first_import_may_fail_and_the_second_succeed():
    """numpy 2.4 and later: geomstats alone does not import, and leaves broken modules behind."""
    assert_runs(
        "import contextlib\n"
        "with contextlib.suppress(ImportError):\n    import geomstats.backend\n"
        "from manifolds import Flag; assert Flag(3, (1,)).dim == 2",
        GEOMSTATS_BACKEND="pytorch",
    )


@pytest.mark.parametrize(
    ("first", "environment"),
    [
        (
            "import numpy; numpy.trapz = getattr(numpy, 'trapz', None) or numpy.trapezoid; import geomstats.backend",
            {},
        ),
        ("pass", {"GEOMSTATS_BACKEND": "numpy"}),
    ],
    ids=["already loaded", "asked for by the environment"],
)
def test_another_backend_is_refused_in_one_sentence(first, environment):
    error = error_of(f"{first}\nimport manifolds.backend", **environment).strip().splitlines()[-1]
    assert error.startswith("RuntimeError: geomstats runs on its numpy backend")
    assert "GEOMSTATS_BACKEND=pytorch" in error
