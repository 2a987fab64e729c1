"""What there is to compare: tables of the weights and spaces of an analysis, and of the tensors that it skipped."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from .alignment import PROJECTION_OVERLAP, Column, Schema, constant_component, mean_share, participation_ratio
from .network import Side, Skipped, Stack, Weight
from .numerics.spectrum import Spectrum

WEIGHT_SCHEMA = Schema(
    "One row for each weight",
    (
        Column("name", "str", "the same whatever the file's spelling: `layers.3.q`, `layers.3.q.heads.0`, `embed`"),
        Column("role", "str", "embed, q, k, v, o, gate, up, down, router, expert_up ... or unembed"),
        Column("layer", "Int64", "layer; missing for embed and unembed"),
        Column("head", "Int64", "number of the head; missing for a whole projection"),
        Column("expert", "Int64", "number of the expert in its layer; missing for all that is no single expert"),
        Column("stacked", "Int64", "number of experts of which it is the stack; missing for any other weight"),
        Column("tensor", "str", "name in the checkpoint; of a stack with a star for what differs among its experts"),
        Column("source", "str", "space that it reads"),
        Column("target", "str", "space that it writes"),
        Column("source_dim", "int64", "dimension of the source"),
        Column("target_dim", "int64", "dimension of the target; the matrix has shape (target_dim, source_dim)"),
        Column("rank", "int64", "kept directions of non-zero singular value"),
        Column("sigma_max", "float64", "largest singular value"),
        Column("frobenius_norm", "float64", "root of the sum of all squared entries"),
        Column("stable_rank", "float64", "squared Frobenius norm over squared largest singular value"),
        Column(
            "effective_rank",
            "float64",
            "exp of the entropy of the shares of the squared Frobenius norm: on how many directions it is spread; "
            "missing where not all singular values were measured",
        ),
        Column(
            "above_random_edge",
            "Int64",
            "singular values above |W| (1/√m + 1/√n), where those of a random matrix of this shape and norm end; "
            "missing where all that were measured are above",
        ),
        Column("energy", "float64", "share of the squared Frobenius norm in the kept directions"),
        Column("gap_1", "float64", "(s_1 - s_2) / s_1"),
        Column(
            "undetermined", "int64", "kept directions that a relative gap below 1 % leaves free to rotate into the next"
        ),
        Column(
            "read_channels", "float64", "participation ratio of the first right singular vector: 1 to the dimension"
        ),
        Column("write_channels", "float64", "participation ratio of the first left singular vector"),
        Column("read_constant", "float64", "|cos| of the first right singular vector with the constant vector"),
        Column("write_constant", "float64", "|cos| of the first left singular vector with the constant vector"),
        Column(
            "read_mean_share",
            "float64",
            "share of the first right singular vector that lies along the constant vector and the vector of the norms "
            "of the columns, as a common mean of the entries makes it; about 2 over the dimension for a random one",
        ),
        Column("write_mean_share", "float64", "the same of the first left singular vector and the norms of the rows"),
        Column("residual", "float64", "largest misfit of a kept triplet, relative to s_1"),
    ),
)
SPACE_SCHEMA = Schema(
    "One row for each space",
    (
        Column("name", "str", "`stream`, `vocabulary`, `layers.3.hidden`, `layers.3.heads.0.keys` ..."),
        Column("kind", "str", "stream, hidden, keys, values or vocabulary"),
        Column("dim", "int64", "dimension"),
        Column("depth", "Int64", "layer; missing for the stream and the vocabulary"),
        Column("symmetry", "str", "group of the changes of basis that leave the network's function unchanged"),
        Column("assumed", "bool", "whether the settings do not tell: it is the largest group that may apply then"),
        Column(
            "overlap_basis_independent",
            "bool",
            "whether none of these alters angles between whole subspaces; for leading ones see `pairs`",
        ),
    ),
)
SKIPPED_SCHEMA = Schema(
    "One row for each tensor that no weight uses, or of which some rows are left out",
    (
        Column("tensor", "str", "name in the checkpoint"),
        Column("shape", "str", "as stored"),
        Column("reason", "str", "why it is not used"),
    ),
)


def whole_weights(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table of weights of which each layer has one a role: no heads, and in place of experts their stack."""
    return table[table["head"].isna() & table["expert"].isna()]


def weight_table(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    """One row a weight: where it stands and what its spectrum says; spectra by name of the weight."""
    return WEIGHT_SCHEMA.frame(_weight_row(weight, spectra[weight.name]) for weight in weights)


def _weight_row(weight: Weight, spectrum: Spectrum) -> dict[str, Any]:
    sigma_max = float(spectrum.values[0])
    return {
        "name": weight.name,
        "role": weight.role,
        "layer": weight.layer,
        "head": weight.head,
        "expert": weight.expert,
        "stacked": len(weight.experts) if isinstance(weight, Stack) else None,
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
        "read_mean_share": mean_share(spectrum.frame(Side.READ), spectrum.column_norms),
        "write_mean_share": mean_share(spectrum.frame(Side.WRITE), spectrum.row_norms),
        "residual": spectrum.residual,
    }


def space_table(weights: Iterable[Weight]) -> pd.DataFrame:
    """One row a space that the weights read or write, with the changes of basis that it allows."""
    spaces = {space.name: space for weight in weights for space in map(weight.space, weight.sides)}
    return SPACE_SCHEMA.frame(
        {"name": space.name, "kind": space.kind.value, "dim": space.dim, "depth": space.depth}
        | {"symmetry": space.symmetry.value, "assumed": space.assumed}
        | {"overlap_basis_independent": PROJECTION_OVERLAP.is_basis_independent(space.symmetry)}
        for space in spaces.values()
    )


def skipped_table(skipped: Iterable[Skipped]) -> pd.DataFrame:
    """One row a tensor that was not used, with the reason."""
    return SKIPPED_SCHEMA.frame(
        {"tensor": item.tensor, "shape": "x".join(map(str, item.shape)), "reason": item.reason} for item in skipped
    )
