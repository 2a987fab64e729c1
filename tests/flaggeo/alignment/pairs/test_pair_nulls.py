import numpy as np
import pandas as pd
import pytest

from flaggeo import load
from flaggeo.alignment import SubspacePair, pair_null_table, pair_table
from flaggeo.alignment.pairs.pair_table import PAIR_OBSERVABLES
from flaggeo.alignment.pairs.subspace import subspaces_of
from tests.builders import CONFIG, random_frame, tiny_llama
from tests.flaggeo.alignment.builders import spectra_of

COLUMNS = [observable.column for observable in PAIR_OBSERVABLES]
KEYS = ["dim", "first_rank", "second_rank"]


def test_every_pair_finds_the_null_of_each_of_its_numbers():
    network = load(tiny_llama(), config=CONFIG)
    spectra = spectra_of(network, rank=30)
    weights = [weight for weight in network.weights if weight.layer in (0, None)]
    frames = {subspace.name: subspace.frame for subspace in subspaces_of(weights, spectra)}
    pairs = pair_table(weights, spectra)
    nulls = pair_null_table(pairs, frames)
    shapes = {end: [frames[name].shape for name in pairs[end]] for end in ("source", "target")}
    (dims, first_ranks), (_, second_ranks) = (zip(*found, strict=True) for found in shapes.values())
    pairs = pairs.assign(dim=dims, first_rank=first_ranks, second_rank=second_ranks)
    of_overlap = nulls[nulls["column"] == "overlap"]
    both = pairs.merge(of_overlap, on=KEYS, validate="many_to_one")
    assert len(both) == len(pairs)
    np.testing.assert_array_equal(both["overlap_null_mean"], both["null_mean"])
    np.testing.assert_array_equal(both["overlap_null_sd"], both["null_sd"])
    # Nothing that does not occur, and every column once.
    assert len(of_overlap) == len(pairs[KEYS].drop_duplicates()) > 1
    assert (nulls.groupby(KEYS)["column"].apply(list).map(lambda found: found == COLUMNS)).all()


def test_the_moments_are_those_of_the_observables():
    frames = {"a": random_frame(20, 3, seed=0), "b": random_frame(20, 5, seed=1), "c": random_frame(20, 3, seed=2)}
    pairs = pd.DataFrame({"source": ["a", "c", "b"], "target": ["b", "b", "a"]})
    table = pair_null_table(pairs, frames)
    assert len(table) == 2 * len(COLUMNS)  # a and c are alike
    found = table.set_index(["first_rank", "column"])
    for observable in PAIR_OBSERVABLES:
        mean, spread = observable.null.law(SubspacePair(frames["a"], frames["b"]))
        for first in (3, 5):  # no number minds which subspace comes first, and neither does its null
            row = found.loc[(first, observable.column)]
            assert (row["null_mean"], row["null_sd"]) == pytest.approx((float(mean), float(spread)), nan_ok=True)
