"""What there is to compare: tables of the weights and spaces of an analysis."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from .alignment import PROJECTION_OVERLAP, constant_component, participation_ratio
from .network import Side, Weight
from .numerics.spectrum import Spectrum


def weight_table(weights: list[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    """One row a weight: where it stands and what its spectrum says; spectra by name of the weight."""
    table = pd.DataFrame([_weight_row(weight, spectra[weight.name]) for weight in weights])
    return table.astype(dict.fromkeys(("layer", "head", "expert"), "Int64"))


def _weight_row(weight: Weight, spectrum: Spectrum) -> dict[str, Any]:
    sigma_max = float(spectrum.values[0])
    return {
        "name": weight.name,
        "role": weight.role,
        "layer": weight.layer,
        "head": weight.head,
        "expert": weight.expert,
        "tensor": weight.tensor,
        "source": weight.source.name,
        "target": weight.target.name,
        "source_dim": weight.source.dim,
        "target_dim": weight.target.dim,
        "rank": int((spectrum.values > 0).sum()),
        "sigma_max": sigma_max,
        "frobenius_norm": spectrum.frobenius_norm,
        "stable_rank": (spectrum.frobenius_norm / sigma_max) ** 2 if sigma_max else np.nan,
        "effective_rank": spectrum.effective_rank,
        "above_random_edge": spectrum.above_random_edge,
        "energy": spectrum.energy,
        "gap_1": float(spectrum.gaps[0]),
        "undetermined": int(spectrum.undetermined.sum()),
        "read_channels": participation_ratio(spectrum.frame(Side.READ)),
        "write_channels": participation_ratio(spectrum.frame(Side.WRITE)),
        "read_constant": constant_component(spectrum.frame(Side.READ)),
        "write_constant": constant_component(spectrum.frame(Side.WRITE)),
        "residual": spectrum.residual,
    }


def space_table(weights: list[Weight]) -> pd.DataFrame:
    """One row a space that the weights read or write, with the changes of basis that it allows."""
    spaces = {space.name: space for weight in weights for space in (weight.source, weight.target)}
    rows = [
        (
            *(space.name, space.kind.value, space.dim, space.depth, space.symmetry.value, space.assumed),
            PROJECTION_OVERLAP.is_basis_independent(space.symmetry),
        )
        for space in spaces.values()
    ]
    table = pd.DataFrame(
        rows, columns=["name", "kind", "dim", "depth", "symmetry", "assumed", "overlap_basis_independent"]
    )
    return table.astype({"depth": "Int64"})
