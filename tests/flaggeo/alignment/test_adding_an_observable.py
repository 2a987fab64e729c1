"""To add an observable is one file and one line: its record stands here, and the line is a patch of the room's list."""

from dataclasses import replace

import numpy as np
import pytest

from flaggeo import load
from flaggeo.alignment import (
    Interface,
    LayerPair,
    Null,
    SubspacePair,
    continuity_schema,
    continuity_table,
    gram_cosines,
    gram_matrix,
    head_table,
    interface_rows,
    interface_schema,
    interface_table,
    interfaces_by_rank,
    interfaces_by_rank_schema,
    observables,
    pair_null_table,
    pair_schema,
    pair_table,
    projection_heads,
    schemas,
    trajectory_variance_schema,
    trajectory_variance_table,
)
from flaggeo.alignment.depth.continuity_table import LAYER_OBSERVABLES
from flaggeo.alignment.depth.gram_cosine import GRAM_OBSERVABLES, GramPair
from flaggeo.alignment.depth.trajectory import TRAJECTORY_OBSERVABLES, Trajectory
from flaggeo.alignment.heads.head_table import HEAD_OBSERVABLES
from flaggeo.alignment.interfaces.interface_table import INTERFACE_OBSERVABLES
from flaggeo.alignment.interfaces.leading_directions import LEADING_OBSERVABLES, LeadingDirections
from flaggeo.alignment.pairs.pair_table import PAIR_OBSERVABLES
from flaggeo.alignment.pairs.subspace import subspaces_of
from flaggeo.network import Side
from tests.builders import CONFIG, tiny_llama
from tests.flaggeo.alignment.builders import matrices, spectra_of
from tests.flaggeo.alignment.test_observable import OBSERVABLE

OWN = replace(OBSERVABLE, column="own", null=Null(text="", law=lambda _: (0.25, 0.1)))


@pytest.fixture(scope="module")
def network():
    return load(tiny_llama(), config=CONFIG)


@pytest.fixture(scope="module")
def spectra(network):
    return spectra_of(network)


def test_an_observable_of_pairs_of_subspaces(monkeypatch, network, spectra):
    own = replace(
        OWN, table="pairs", pair=SubspacePair, measure=lambda pair: pair.squared_cosines.amax(dim=(-2, -1)).clamp(max=1)
    )
    monkeypatch.setattr("flaggeo.alignment.pairs.pair_table.PAIR_OBSERVABLES", (*PAIR_OBSERVABLES, own))
    assert own in observables()
    assert "own" in pair_schema().names
    assert schemas()["pairs"] == pair_schema()
    frames = {subspace.name: subspace.frame for subspace in subspaces_of(network.weights, spectra)}
    table = pair_table(network.weights, spectra)
    for row in table.sample(20, random_state=0).itertuples():
        assert row.own == pytest.approx(float((frames[row.source].mT @ frames[row.target]).square().max()))
    nulls = pair_null_table(table, frames).set_index("column").loc["own"]
    assert nulls["null_mean"].tolist() == [0.25] * len(nulls)
    assert nulls["null_sd"].tolist() == [0.1] * len(nulls)


def test_an_observable_of_pairs_of_heads(monkeypatch, network):
    own = replace(
        OWN, table="heads", pair=SubspacePair, measure=lambda pair: pair.squared_cosines.amax(dim=(-2, -1)).clamp(max=1)
    )
    monkeypatch.setattr("flaggeo.alignment.heads.head_table.HEAD_OBSERVABLES", (*HEAD_OBSERVABLES, own))
    assert own in observables()
    heads = projection_heads(network.weights, matrices(network))
    frames = {name: frame for one in heads for name, frame in zip(one.names, one.frames, strict=True)}
    table = head_table(heads)
    assert set(table["kind"]) == {"QQ", "KK", "VV", "OO", "OQ", "OK", "OV"}
    for row in table.sample(20, random_state=0).itertuples():
        assert row.own == pytest.approx(float((frames[row.source].mT @ frames[row.target]).square().max()), rel=1e-5)
        assert row.own_effect_size == pytest.approx((row.own - 0.25) / 0.75)


def rows_of_interfaces(network):
    layer = [weight for weight in network.weights if weight.layer == 0]
    return interface_rows(layer, matrices(network), rank=4, draws=0, seed=0)


# A function of how many directions are compared.
OF_LEADING = replace(OWN, table="interfaces", pair=LeadingDirections, measure=lambda pair: 1 / (1 + pair.kept))


def with_grams(network, spectra):
    of = matrices(network)
    found = {
        (f"layers.0.{role}", Side.READ): gram_cosines(
            *(gram_matrix(of[f"layers.{i}.{role}"], Side.READ) for i in (0, 1))
        )
        for role in ("q", "k", "v", "gate", "up")
    }
    table = continuity_table(network.weights, spectra, found)
    return table[table["gram_cosine"].notna()]


ROOMS = {
    "Gram matrices": (
        "flaggeo.alignment.depth.gram_cosine.GRAM_OBSERVABLES",
        GRAM_OBSERVABLES,
        replace(
            OWN,
            table="continuity",
            pair=GramPair,
            measure=lambda pair: (pair.earlier * pair.later).sum() / (pair.norms[0] * pair.norms[1]),
        ),
        continuity_schema,
        with_grams,
        lambda table: table["gram_cosine"],
    ),
    "leading directions": (
        "flaggeo.alignment.interfaces.leading_directions.LEADING_OBSERVABLES",
        LEADING_OBSERVABLES,
        OF_LEADING,
        interface_schema,
        lambda network, _: interface_table(rows_of_interfaces(network)),
        lambda table: 1 / (1 + table["rank"].astype(float)),
    ),
    "leading directions at every rank": (
        "flaggeo.alignment.interfaces.leading_directions.LEADING_OBSERVABLES",
        LEADING_OBSERVABLES,
        OF_LEADING,
        interfaces_by_rank_schema,
        lambda network, _: interfaces_by_rank(rows_of_interfaces(network)),
        lambda table: 1 / (1 + table["k"]),
    ),
    "layers": (
        "flaggeo.alignment.depth.continuity_table.LAYER_OBSERVABLES",
        LAYER_OBSERVABLES,
        replace(OWN, table="continuity", pair=LayerPair, measure=lambda pair: pair.cosines[..., 0].square()),
        continuity_schema,
        lambda network, spectra: continuity_table(network.weights, spectra),
        lambda table: table["abs_cos_1"] ** 2,
    ),
    "trajectories": (
        "flaggeo.alignment.depth.trajectory.TRAJECTORY_OBSERVABLES",
        TRAJECTORY_OBSERVABLES,
        replace(OWN, table="trajectory_variance", pair=Trajectory, measure=lambda path: path.explained[0].square()),
        trajectory_variance_schema,
        lambda network, spectra: trajectory_variance_table(network.weights, spectra),
        lambda table: table["evr_1"] ** 2,
    ),
    "interfaces": (
        "flaggeo.alignment.interfaces.interface_table.INTERFACE_OBSERVABLES",
        INTERFACE_OBSERVABLES,
        replace(
            OWN, table="interfaces", pair=Interface, measure=lambda pair: 1 / (1 + pair.first.rank.expand(pair.batch))
        ),
        interface_schema,
        lambda network, _: interface_table(rows_of_interfaces(network)),
        lambda table: 1 / (1 + table["first_rank"].astype(float)),
    ),
}


@pytest.mark.parametrize(("listed", "others", "own", "schema", "table_of", "expected"), ROOMS.values(), ids=ROOMS)
def test_an_observable_of_another_room_stands_beside_its_null_and_effect_size(
    monkeypatch, network, spectra, listed, others, own, schema, table_of, expected
):
    before = table_of(network, spectra)
    monkeypatch.setattr(listed, (*others, own))
    assert own in observables()
    assert {column.name: column for column in schema().columns}.items() >= {c.name: c for c in own.columns}.items()
    table = table_of(network, spectra)
    assert set(table.columns) - set(before.columns) == {"own", "own_null_mean", "own_null_sd", "own_effect_size"}
    np.testing.assert_allclose(table["own"], expected(table), rtol=1e-5)
    np.testing.assert_allclose(table["own_effect_size"], (table["own"] - 0.25) / 0.75, rtol=1e-6)
    assert set(table["own_null_mean"]) == {0.25}
