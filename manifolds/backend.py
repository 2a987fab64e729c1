"""geomstats on torch, imported in one place and without side effects.

geomstats fixes its array backend at its first import, sets torch's default dtype for the whole process on
the way, and (in 2.8.0) imports a name that numpy 2.4 removed. Here it is imported so that none of this is
seen outside. The rest of the package takes geomstats' names from this module.
"""

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

BACKEND = "pytorch"


def import_geomstats(name: str) -> ModuleType:
    """Import a geomstats module on the torch backend, leaving numpy and torch as they were.

    Later imports of the same module by name get what this one loaded. If geomstats was imported before this package,
    torch's default dtype is already float64 and stays so.

    Parameters
    ----------
    name : str
        Full name of the module.

    Raises
    ------
    RuntimeError
        If geomstats runs, or is told by the environment variable ``GEOMSTATS_BACKEND`` to run, on a
        backend other than torch. Its backend cannot change within a process.

    Examples
    --------
    >>> import_geomstats("geomstats.learning.frechet_mean").FrechetMean.__name__
    'FrechetMean'
    """
    loaded = sys.modules.get("geomstats.backend")
    active = os.environ.get("GEOMSTATS_BACKEND", BACKEND) if loaded is None else loaded.__name__.split(".")[-1]
    if active != BACKEND:
        raise RuntimeError(
            f"geomstats runs on its {active} backend in this process; manifolds expected {BACKEND}. Set "
            f"GEOMSTATS_BACKEND={BACKEND} before the first import of geomstats, or import manifolds.backend first."
        )
    with _no_side_effects():
        importlib.import_module("geomstats.backend")
        module = importlib.import_module(name)
    if name == "geomstats.learning.pca":
        module.svd_flip = _svd_flip  # type: ignore[attr-defined]
    return module


def _svd_flip(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Make the largest entry of each left singular vector positive.

    geomstats 2.8.0 takes this from scikit-learn, which since 1.7 no longer accepts torch tensors there.
    """
    rows = left.abs().argmax(dim=0)
    signs = left[rows, torch.arange(left.shape[1], device=left.device)].sign()
    return left * signs, right * signs[:, None]


@contextlib.contextmanager
def _no_side_effects() -> Iterator[None]:
    default_dtype = torch.get_default_dtype()
    chosen = os.environ.get("GEOMSTATS_BACKEND")
    os.environ["GEOMSTATS_BACKEND"] = BACKEND
    lend_trapz = not hasattr(np, "trapz")
    if lend_trapz:
        np.trapz = np.trapezoid  # type: ignore[attr-defined]
    try:
        with warnings.catch_warnings():
            # geomstats' importer of its backend has no exec_module, about which Python warns.
            warnings.simplefilter("ignore", ImportWarning)
            yield
    finally:
        if lend_trapz:
            del np.trapz  # type: ignore[attr-defined]
        torch.set_default_dtype(default_dtype)
        if chosen is None:
            del os.environ["GEOMSTATS_BACKEND"]


LevelSet = import_geomstats("geomstats.geometry.base").LevelSet
Matrices = import_geomstats("geomstats.geometry.matrices").Matrices
RiemannianMetric = import_geomstats("geomstats.geometry.riemannian_metric").RiemannianMetric
