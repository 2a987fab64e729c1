"""Every table is what its schema says, with rows and without, and every observable stands in one."""

import pandas as pd
import pytest

from flaggeo import load
from flaggeo.alignment import (
    CLUSTER_SCHEMA,
    DIVERGENCE_SCHEMA,
    Nulls,
    closed_nulls,
    continuity_by_lag,
    continuity_by_rank,
    continuity_nulls,
    continuity_table,
    expert_table,
    gram_cosines,
    gram_matrix,
    head_clusters,
    head_divergences,
    head_table,
    interface_rows,
    interface_table,
    interfaces_by_rank,
    layer_chains,
    norm_profile,
    observables,
    pair_null_table,
    pair_table,
    projection_heads,
    readings_table,
    schemas,
    stability_table,
    trajectory_table,
    trajectory_variance_table,
    with_equal_norms,
)
from flaggeo.alignment.depth.layer_pair import even_sides
from flaggeo.alignment.pairs.subspace import subspaces_of
from tests.builders import CONFIG, tiny_llama
from tests.flaggeo.alignment.builders import matrices, spectra_of
from tests.mixtures import CONFIG as MIXTURE
from tests.mixtures import tiny_mixtral

SCHEMAS = {**schemas(), "head_divergences": DIVERGENCE_SCHEMA, "head_clusters": CLUSTER_SCHEMA}


def tables_of(weights, of, spectra, draws):
    """Every table that is made of these weights."""
    heads = projection_heads(weights, of)
    profiles = {weight.name: norm_profile(of[weight.name], 4) for weight in weights if weight.head is None}
    drawn = Nulls.joined(
        [
            continuity_nulls(chain, spectra, profiles, {one.projection: one for one in heads}, draws=draws, seed=0)
            for chain in layer_chains(weights).values()
        ]
    )
    nulls = closed_nulls(weights, spectra, heads).checked_by(drawn)
    grams = {
        (chain[0].name, side): gram_cosines(*(gram_matrix(of[weight.name], side) for weight in chain[:2]))
        for side, chain in even_sides(weights)
    }
    continuity = continuity_table(weights, spectra, grams)
    readings = readings_table(weights, continuity, nulls.table, spectra, {}, folded=False, false_discovery_rate=0.01)
    doubted = readings.assign(abs_cos_1_effect_size=0.5, abs_cos_1_norm_matched_mean=1.0)
    pairs = pair_table(weights, spectra, nulls.leverages)
    all_asked = pairs.assign(overlap_q_value=0.0, overlap_excess=1.0)
    found = head_table(heads, nulls.whole_head_leverages)
    rows = interface_rows(weights, of, rank=4, draws=draws, seed=0)
    return {
        "continuity": continuity,
        "continuity_by_rank": continuity_by_rank(weights, spectra),
        "continuity_by_lag": continuity_by_lag(weights, spectra),
        "continuity_nulls": nulls.table,
        "readings": with_equal_norms(doubted, weights, spectra, lambda weight: of[weight.name]),
        "trajectories": trajectory_table(weights, spectra),
        "trajectory_variance": trajectory_variance_table(weights, spectra),
        "pairs": pairs,
        "stability": stability_table(
            weights, spectra, {weight.name: 0.1 for weight in weights}, all_asked, nulls.leverages, rank=2
        ),
        "pair_nulls": pair_null_table(pairs, {one.name: one.frame for one in subspaces_of(weights, spectra)}),
        "interfaces": interface_table(rows),
        "interfaces_by_rank": interfaces_by_rank(rows),
        "heads": found,
        "experts": expert_table(weights, spectra),
        "head_divergences": head_divergences(found),
        "head_clusters": head_clusters(found, least=0.01),
    }


@pytest.fixture(scope="module")
def full():
    network = load(tiny_llama(layers=5), config=CONFIG | {"num_hidden_layers": 5})
    # A trajectory needs five layers to have a variance, heads need two to compose.
    weights = [weight for weight in network.weights if weight.head is None or weight.layer < 2]
    tables = tables_of(weights, matrices(network), spectra_of(network), draws=2)
    mixture = load(tiny_mixtral(), config=MIXTURE)
    return tables | {"experts": expert_table(mixture.weights, spectra_of(mixture))}


@pytest.fixture(scope="module")
def empty():
    return tables_of([], {}, {}, draws=2)


def test_every_table_has_a_schema(full):
    assert set(full) == set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_table_has_the_columns_and_types_of_its_schema_with_rows_and_without(name, full, empty):
    types = [(column.name, column.dtype) for column in SCHEMAS[name].columns]
    for table in (full[name], empty[name]):
        assert [(column, str(dtype)) for column, dtype in table.dtypes.items()] == types
    assert len(full[name]) > 0 == len(empty[name])
    assert len(set(SCHEMAS[name].names)) == len(SCHEMAS[name].names)


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_column_is_always_missing(name, full):
    table = full[name]
    assert table.columns[table.isna().all()].empty


@pytest.mark.parametrize("observable", observables(), ids=lambda observable: f"{observable.table}-{observable.column}")
def test_an_observable_stands_in_its_table_with_all_that_is_made_of_it(observable, full):
    table, columns = full[observable.table], [column.name for column in observable.columns]
    if observable.table == "pairs" and not observable.p_value_columns:
        nulls = full["pair_nulls"].set_index("column").loc[observable.column]
        assert nulls[["null_mean", "null_sd"]].notna().all(axis=None)
        columns = columns[:1]
    assert set(columns) <= set(table.columns)
    least, most = observable.range
    assert table[observable.column].dropna().between(least, most).all()


@pytest.mark.parametrize("observable", [one for one in observables() if one.p_value_columns], ids=lambda one: one.table)
def test_no_p_value_lies_below_what_the_nulls_can_give(observable, full):
    table, name = full[observable.table].dropna(subset=observable.p_value_columns), observable.column
    assert len(table)
    largest, floor = table[observable.p_value_columns].max(axis=1), table[f"{name}_p_value_floor"]
    assert (floor <= largest).all()
    tested = table[f"{name}_q_value"].notna()
    assert (table.loc[tested, f"{name}_q_value"] >= largest[tested]).all()


def test_no_column_is_made_of_two_observables():
    columns = pd.Series([(one.table, column.name) for one in observables() for column in one.columns])
    assert columns.is_unique
