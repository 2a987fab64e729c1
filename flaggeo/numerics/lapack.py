"""Functions of BLAS and LAPACK, called without the interpreter's lock.

They are those that SciPy offers to C: its functions for Python hold the lock, and two threads would take turns.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: What a function takes: letters, sizes, and arrays, of which it is told where they are.
Argument = str | int | NDArray[Any]


def blas(name: str, dtype: np.dtype[Any], *arguments: Argument) -> None:
    """Call a function of BLAS, ``"syrk"`` for ``dsyrk`` or ``ssyrk``."""
    _function("blas", name, dtype)(*map(_address, arguments))


def lapack(name: str, dtype: np.dtype[Any], *arguments: Argument) -> None:
    """Call a function of LAPACK; the last argument, its verdict, is ours.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it says that it failed.
    """
    verdict = ctypes.c_int(0)
    _function("lapack", name, dtype)(*map(_address, arguments), ctypes.byref(verdict))
    if verdict.value:
        raise np.linalg.LinAlgError(f"{name} of LAPACK ended with {verdict.value}")


def _address(argument: Argument) -> Any:
    if isinstance(argument, str):
        return argument.encode()
    return ctypes.byref(ctypes.c_int(argument)) if isinstance(argument, int) else ctypes.c_void_p(argument.ctypes.data)


@cache
def _function(library: str, name: str, dtype: np.dtype[Any]) -> Callable[..., None]:
    from scipy.linalg import cython_blas, cython_lapack  # a tenth of a second, and only needed for large matrices

    functions = {"blas": cython_blas, "lapack": cython_lapack}[library].__pyx_capi__
    capsule = functions[{"float32": "s", "float64": "d"}[dtype.name] + name]
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    address_in = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return ctypes.CFUNCTYPE(None)(address_in(capsule, name_of(capsule)))
