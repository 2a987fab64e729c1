"""Numbers that an implementation of its own measured on real models, to hold an analysis against."""

import pytest

#: Mean |cos| of neighbouring first singular vectors.
SMOLLM2 = {"q": 0.419, "k": 0.567, "gate": 0.670, "up": 0.392, "v": 0.078, "o": 0.393, "down": 0.764}
MINILM = {"q": 0.294, "k": 0.247, "v": 0.208, "up": 0.724, "o": 0.381, "down": 0.574}
#: Norm-matched |cos| (2 draws there, hence 0.03) and equalised |cos| (0.01), on both sides, from the same tables.
SMOLLM2_NULLS = {
    ("q", "read"): (0.075, 0.395),
    ("q", "write"): (0.030, 0.047),
    ("k", "read"): (0.033, 0.578),
    ("k", "write"): (0.102, 0.080),
    ("gate", "read"): (0.035, 0.651),
    ("gate", "write"): (0.018, 0.362),
    ("up", "read"): (0.032, 0.445),
    ("up", "write"): (0.017, 0.026),
    ("o", "read"): (0.035, 0.031),
    ("o", "write"): (0.467, 0.128),
    ("down", "read"): (0.018, 0.015),
    ("down", "write"): (0.755, 0.460),
    ("v", "read"): (0.034, 0.081),
    ("v", "write"): (0.059, 0.073),
}
MINILM_NULLS = {
    ("q", "read"): (0.052, 0.244),
    ("q", "write"): (0.056, 0.038),
    ("k", "read"): (0.188, 0.434),
    ("k", "write"): (0.044, 0.044),
    ("v", "read"): (0.055, 0.358),
    ("v", "write"): (0.037, 0.039),
    ("up", "read"): (0.067, 0.757),
    ("up", "write"): (0.017, 0.674),
    ("o", "read"): (0.042, 0.027),
    ("o", "write"): (0.080, 0.350),
    ("down", "read"): (0.021, 0.018),
    ("down", "write"): (0.559, 0.490),
}


def headline(analysis):
    shared = analysis.summary[analysis.summary["shared_space"]]
    return dict(zip(shared["role"], shared["abs_cos_1"], strict=True))


def published_nulls_hold(analysis, published):
    rows = analysis.summary.set_index(["role", "side"])
    assert set(rows.index) == set(published)
    matched, equalised = (rows[f"abs_cos_1_{part}"].to_dict() for part in ("norm_matched_mean", "equalised"))
    assert matched == pytest.approx({key: pair[0] for key, pair in published.items()}, abs=0.03)
    assert equalised == pytest.approx({key: pair[1] for key, pair in published.items()}, abs=0.01)
