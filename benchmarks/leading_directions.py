"""Sixteen leading directions of large matrices: what flaggeo chooses, against one Gram product and other ways.

Run with ``python -m benchmarks.leading_directions``: about three minutes. Times are CPU seconds of one thread, the
fastest of three runs; results go to ``benchmarks/results/leading_directions.json``.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from scipy.sparse.linalg import svds
from torch import Tensor

from flaggeo.numerics import spectrum as spectra
from flaggeo.numerics.spectrum import leading_spectrum
from flaggeo.numerics.threads import single_threaded_blas

from .whole_process import machine, trained

RESULTS = Path(__file__).with_name("results") / "leading_directions.json"
_SHAPES = ((1024, 1024), (2048, 2048), (5632, 2048), (4096, 4096))
_RANK = 16


def main() -> None:
    """Print one row for each shape, and write them."""
    torch.set_num_threads(1)
    rows = []
    with single_threaded_blas():
        for shape in _SHAPES:
            rows.append(compared(trained(*shape, torch.Generator().manual_seed(0))))
            print(" | ".join(f"{value:.2g}" if isinstance(value, float) else str(value) for value in rows[-1].values()))
    squares = [(row["rows"], row["flaggeo_s"]) for row in rows if row["rows"] == row["columns"]]
    widths, times = np.log(np.array(squares)).T
    exponent = float(np.polyfit(widths, times, 1)[0])
    print(f"time grows with the width to the power of {exponent:.2f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine(), "rows": rows, "exponent": exponent}, indent=1) + "\n")


def compared(stored: Tensor) -> dict[str, Any]:
    """Seconds of each way to the directions of a matrix in bfloat16, and the largest sine to those of LAPACK."""
    matrix = stored.double()
    with patch.multiple(spectra, _needs_no_gram=lambda _: False, _GRAM_PRODUCTS=math.inf):
        exact, lapack = timed(lambda: leading_spectrum(matrix, _RANK).right, repeats=1)
    found, flaggeo = timed(lambda: leading_spectrum(matrix, _RANK).right)
    _, product = timed(lambda: matrix.mT @ matrix)
    sketch, lowrank = timed(lambda: torch.svd_lowrank(matrix, q=_RANK + 8, niter=2)[2][:, :_RANK])
    krylov, arpack = timed(lambda: torch.from_numpy(svds(matrix.numpy(), k=_RANK, rng=0)[2].copy()).mT, repeats=1)
    return {
        "rows": stored.shape[0],
        "columns": stored.shape[1],
        "flaggeo_s": flaggeo,
        "product_s": product,
        "lapack_s": lapack,
        "svds_s": arpack,
        "svd_lowrank_s": lowrank,
        "flaggeo_sine": largest_sine(found, exact),
        "svds_sine": largest_sine(krylov, exact),
        "svd_lowrank_sine": largest_sine(sketch, exact),
    }


def timed(run: Callable[[], Tensor], repeats: int = 3) -> tuple[Tensor, float]:
    """What it gives, and the CPU seconds of its fastest run."""
    fastest = math.inf
    for _ in range(repeats):
        start = time.process_time()
        found = run()
        fastest = min(fastest, time.process_time() - start)
    return found, fastest


def largest_sine(frame: Tensor, exact: Tensor) -> float:
    """Of the angles between two subspaces."""
    return float(torch.linalg.matrix_norm(frame - exact @ (exact.mT @ frame), 2))


if __name__ == "__main__":
    main()
