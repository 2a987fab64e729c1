import numpy as np
import pandas as pd
import pytest

from flaggeo import analyze, load
from flaggeo.alignment import CHANCE_COLUMNS, PAIR_OBSERVABLES, SubspacePair, pair_null_table
from tests.builders import CONFIG, random_frame, tiny_llama

COLUMNS = [observable.column for observable in PAIR_OBSERVABLES]


@pytest.fixture(scope="module")
def tiny():
    return analyze(load(tiny_llama(), config=CONFIG), rank=30, heads=True)


def test_every_pair_finds_the_null_of_each_of_its_numbers(tiny):
    places = tiny.weights.set_index("name")["rank"]
    dims = tiny.spaces.set_index("name")["dim"]
    pairs = tiny.pairs.assign(
        dim=tiny.pairs["space"].map(dims),
        first_rank=tiny.pairs["source"].str.rsplit(".", n=1).str[0].map(places),
        second_rank=tiny.pairs["target"].str.rsplit(".", n=1).str[0].map(places),
    )
    keys = ["dim", "first_rank", "second_rank"]
    of_overlap = tiny.chance[tiny.chance["column"] == "overlap"]
    both = pairs.merge(of_overlap, on=keys, suffixes=("", "_chance"), validate="many_to_one")
    assert len(both) == len(pairs)
    np.testing.assert_array_equal(both["null_mean"], both["null_mean_chance"])
    np.testing.assert_array_equal(both["null_sd"], both["null_sd_chance"])
    # Nothing that does not occur, and every column once.
    assert len(of_overlap) == len(pairs[keys].drop_duplicates()) > 1
    assert (tiny.chance.groupby(keys)["column"].apply(list).map(lambda found: found == COLUMNS)).all()


def test_the_moments_are_those_of_the_observables():
    frames = {"a": random_frame(20, 3, seed=0), "b": random_frame(20, 5, seed=1), "c": random_frame(20, 3, seed=2)}
    pairs = pd.DataFrame({"source": ["a", "c", "b"], "target": ["b", "b", "a"]})
    table = pair_null_table(pairs, frames)
    assert list(table.columns) == list(CHANCE_COLUMNS)
    assert len(table) == 2 * len(COLUMNS)  # a and c are alike
    found = table.set_index(["first_rank", "column"])
    for observable in PAIR_OBSERVABLES:
        mean, spread = observable.null.law(SubspacePair(frames["a"], frames["b"]))
        for first in (3, 5):  # no number minds which subspace comes first, and neither does its null
            row = found.loc[(first, observable.column)]
            assert (row["null_mean"], row["null_sd"]) == pytest.approx((float(mean), float(spread)), nan_ok=True)


def test_without_pairs_the_table_is_empty_and_typed():
    table = pair_null_table(pd.DataFrame({"source": [], "target": []}), {})
    assert list(table.columns) == list(CHANCE_COLUMNS)
    assert table["dim"].dtype == "int64"
    assert table["null_mean"].dtype == "float64"
