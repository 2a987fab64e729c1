import numpy as np
import pytest

from flaggeo.graph.decay import DECAY_COLUMNS, LEAST_EXCESS, decay_table, distance_table
from flaggeo.graph.edges import possible_pairs
from tests.flaggeo.graph.builders import NULL_SD, toy


def decaying(strength_at, *, layers=16, noise=0.0, **options):
    """Query readings whose strength is a function of the distance."""
    names = [f"layers.{layer}.q.read" for layer in range(layers)]
    strengths = {
        (names[first], names[second]): strength_at(second - first)
        for second in range(layers)
        for first in range(second)
    }
    network = toy(strengths, layers=layers, noise=noise, **options)
    distances = distance_table(network.possible)
    table = decay_table(distances)
    assert tuple(table.columns) == DECAY_COLUMNS
    return distances, table.set_index(["kind", "source_role", "target_role"])


@pytest.mark.parametrize("length", [0.5, 2.0, 7.0, 30.0])
def test_a_planted_length_is_recovered(length):
    _, table = decaying(lambda lag: 0.6 * np.exp(-lag / length))
    row = table.loc["read-read", "q", "q"]
    assert row["length"] == pytest.approx(length, rel=1e-3)
    assert row["r_squared"] == pytest.approx(1, abs=1e-6)
    assert row["nearest"] == pytest.approx(0.6 * np.exp(-1 / length))


def test_goodness_falls_where_the_curve_is_no_exponential():
    _, table = decaying(lambda lag: 0.4 if lag < 6 else 0.0)
    assert table.loc["read-read", "q", "q"]["r_squared"] == pytest.approx(0.73, abs=0.05)


@pytest.mark.parametrize("strength_at", [lambda _: 0.3, lambda lag: 0.02 * lag], ids=["flat", "rising"])
def test_what_does_not_decay_has_no_length(strength_at):
    _, table = decaying(strength_at)
    assert np.isnan(table.loc["read-read", "q", "q"]["length"])


def test_chance_has_no_length():
    _, table = decaying(lambda _: 0.3, noise=NULL_SD / (1 - 4 / 64))
    others = table.drop(("read-read", "q", "q"))
    assert others["length"].isna().mean() > 0.9


def test_two_distances_are_too_few():
    _, table = decaying(lambda lag: 0.5**lag, layers=3)
    assert np.isnan(table.loc["read-read", "q", "q"]["length"])


def test_means_are_those_of_the_pairs_and_heads_do_not_count():
    distances, _ = decaying(lambda lag: 0.5**lag, layers=4, heads=2)
    rows = distances[(distances["source_role"] == "q") & (distances["target_role"] == "q")].set_index("lag")
    assert rows["pairs"].to_dict() == {1: 3, 2: 2, 3: 1}
    assert rows["excess"].to_dict() == pytest.approx({1: 0.5, 2: 0.25, 3: 0.125})


@pytest.mark.parametrize(("nearest", "fades"), [(LEAST_EXCESS / 1.01, False), (LEAST_EXCESS * 1.01, True)])
def test_only_an_excess_that_matters_fades(nearest, fades):
    _, table = decaying(lambda lag: nearest * 0.5 ** (lag - 1))
    assert np.isfinite(table.loc["read-read", "q", "q"]["length"]) == fades


def test_what_loud_channels_explain_does_not_fade():
    """The overlap falls, but the norm-matched null falls with it."""
    network = toy({}, layers=8)
    falling = 0.6 * 0.5 ** network.pairs["lag"].astype("float64")
    pairs = network.pairs.assign(overlap=falling, overlap_norm_matched_mean=falling, overlap_excess=0.0)
    distances = distance_table(possible_pairs(pairs, network.nodes))
    assert (distances["largest_null"] > distances["null_mean"]).any()
    assert decay_table(distances)["length"].isna().all()


def test_a_network_without_layers_has_no_distances():
    network = toy({("embed.write", "unembed.read"): 0.4}, layers=0)
    distances = distance_table(network.possible)
    assert distances.empty
    assert decay_table(distances).empty
