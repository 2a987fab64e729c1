"""Sixteen leading directions of large matrices: products with few vectors against LAPACK on the Gram matrix.

Run with ``python -m benchmarks.leading_directions``: about a minute. Times are CPU seconds of one thread; ``sine`` is
the largest between the directions of both ways.
"""

import time
from unittest.mock import patch

import torch

from flaggeo.numerics import spectrum as spectra
from flaggeo.numerics.spectrum import Spectrum, leading_spectrum
from flaggeo.numerics.threads import single_threaded_blas

from .whole_process import trained

_SHAPES = ((1024, 1024), (2048, 2048), (5632, 2048), (4096, 4096))
_RANK = 16


def main() -> None:
    """Print one row for each shape."""
    torch.set_num_threads(1)
    print("| shape | products, s | LAPACK, s | chosen | sine |")
    print("|---|---|---|---|---|")
    with single_threaded_blas():
        for rows, columns in _SHAPES:
            matrix = trained(rows, columns, torch.Generator().manual_seed(0)).double()
            by_products, products = timed(matrix, by_products=True)
            by_lapack, lapack = timed(matrix, by_products=False)
            cosines = (by_products.right * by_lapack.right).sum(dim=0).abs().clamp(max=1)
            sine = float((1 - cosines.square()).sqrt().max())
            chosen = "products" if spectra._krylov_is_faster(matrix) else "LAPACK"
            print(f"| {rows} x {columns} | {products:.2f} | {lapack:.2f} | {chosen} | {sine:.0e} |")


def timed(matrix: torch.Tensor, *, by_products: bool) -> tuple[Spectrum, float]:
    """Spectrum in one of the two ways, and its seconds."""
    with patch.object(spectra, "_krylov_is_faster", lambda _: by_products):
        start = time.process_time()
        found = leading_spectrum(matrix, _RANK)
        return found, time.process_time() - start


if __name__ == "__main__":
    main()
