"""From observables and pairs to columns: effect sizes, excess, tests, and what is missing where nothing is measured."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from flaggeo.alignment import Column, Null, effect_size
from flaggeo.alignment.depth.cosines import ABS_COSINE
from flaggeo.alignment.table import beside_nulls, measured, q_values
from tests.flaggeo.alignment.builders import layer_pair
from tests.flaggeo.alignment.test_observable import OBSERVABLE


@dataclass(frozen=True)
class Pairs:
    """Numbers of several pairs, and what their nulls give."""

    values: torch.Tensor
    nulls: dict


def null(name="null", **attributes):
    """Whatever the pairs say of the null of this name."""
    return Null(text="", name=name, law=lambda pairs: pairs.nulls[name], **attributes)


PLAIN = replace(OBSERVABLE, pair=Pairs, measure=lambda pairs: pairs.values, null=null())
TESTED = replace(
    PLAIN,
    null=null(p_value=lambda pairs: pairs.nulls["p_value"]),
    further_nulls=(
        null("sign_flip", has_sd=False, p_value=lambda pairs: pairs.nulls["sign_flip_p_value"]),
        null("norm_matched", has_sd=False),
    ),
)


def pairs_of(values, **nulls):
    return Pairs(torch.tensor(values), nulls)


def test_a_number_stands_beside_its_null_and_its_effect_size():
    columns = measured([PLAIN], pairs_of([0.2, 0.6, 1.0], null=(np.array([0.2, 0.2, 0.5]), 0.1)))
    assert list(columns) == [column.name for column in PLAIN.columns]
    assert columns["number"].tolist() == pytest.approx([0.2, 0.6, 1.0])
    assert columns["number_null_sd"].tolist() == [0.1] * 3
    assert columns["number_effect_size"].tolist() == pytest.approx([0, 0.5, 1], abs=1e-7)
    assert all(numbers.dtype == np.float64 for numbers in columns.values())


def test_the_excess_counts_from_the_null_that_is_nearest_to_aligned():
    pairs = pairs_of([0.3], null=(0.5, 0.1), sign_flip=(0.4, None), norm_matched=(0.6, None))
    further = (null("sign_flip", has_sd=False), null("norm_matched", has_sd=False))
    for aligned, expected in ((1.0, (0.3 - 0.6) / (1 - 0.6)), (0.0, (0.3 - 0.4) / (0 - 0.4))):
        columns = measured([replace(PLAIN, aligned=aligned, further_nulls=further)], pairs)
        assert columns["number_excess"].tolist() == pytest.approx([expected])


def test_one_pair_alone_and_tensors_are_taken_as_well():
    columns = beside_nulls(PLAIN, torch.tensor(0.6), pairs_of(0.6, null=(torch.tensor(0.2), torch.tensor(0.1))))
    assert {name: numbers.shape for name, numbers in columns.items()} == dict.fromkeys(columns, ())
    assert float(columns["number_effect_size"]) == pytest.approx(0.5)


def test_an_effect_size_of_1_means_aligned_at_either_end():
    imbalance = replace(PLAIN, aligned=0.0, null=null(moment="rms", has_sd=False))
    columns = measured([imbalance], pairs_of([0.0, 0.4, 0.8], null=(0.8, None)))
    assert list(columns) == ["number", "number_null_rms", "number_effect_size"]
    assert columns["number_effect_size"].tolist() == pytest.approx([1, 0.5, 0], abs=1e-7)


def test_an_effect_size_is_missing_where_the_null_leaves_no_room_or_one_value_only():
    means, sds = np.array([1.0, 1 - 1e-6, 0.2, 0.2]), np.array([0.1, 0.1, 0.0, 0.1])
    columns = measured([PLAIN], pairs_of([1.0, 1.0, 0.2, np.nan], null=(means, sds)))
    assert np.isnan(columns["number_effect_size"]).all()
    tight = replace(PLAIN, tolerance=1e-8)
    assert np.isnan(measured([tight], pairs_of([1.0] * 4, null=(means, sds)))["number_effect_size"]).tolist() == [
        True,
        False,
        True,
        False,
    ]


def test_effect_size_by_itself():
    assert effect_size(0.6, 0.2) == pytest.approx(0.5)
    assert effect_size(np.array([0.0, 0.4]), 0.8, aligned=0.0).tolist() == pytest.approx([1, 0.5])
    assert np.isnan(effect_size([1.0, 0.5], [1.0, np.nan])).all()
    assert effect_size(1.0, 1 - 1e-7, tolerance=1e-8) == pytest.approx(1)


def all_nulls(norm_matched=(0.6, 0.1, np.nan), sd=0.1):
    return {
        "null": (np.array([0.2, 0.2, 0.2]), sd),
        "sign_flip": (np.array([0.4, 0.7, 0.1]), None),
        "norm_matched": (np.array(norm_matched), None),
        "p_value": (np.array([0.01, 0.2, 0.5]), 1e-9),
        "sign_flip_p_value": (np.array([0.03, 0.1, 0.5]), np.array([0.02, 0.1, 1e-12])),
    }


def test_the_excess_counts_from_the_largest_null_and_a_null_that_is_unknown_does_not_count():
    columns = measured([TESTED], pairs_of([0.8, 0.85, 0.1], **all_nulls()))
    assert columns["number_excess"].tolist() == pytest.approx([0.5, 0.5, -0.125])
    assert columns["number_effect_size"].tolist() == pytest.approx([0.75, 0.8125, -0.125])
    whole = measured([TESTED], pairs_of([1.0, 1.0, 1.0], **all_nulls(norm_matched=(1.0, np.nan, 1.0))))
    assert np.isnan(whole["number_excess"]).tolist() == [True, False, True]


def test_tests_stand_beside_the_number_and_the_floor_is_that_of_the_null_that_can_give_least():
    columns = measured([TESTED], pairs_of([0.8, 0.85, 0.1], **all_nulls()))
    assert set(columns) == {column.name for column in TESTED.columns} - {"number_q_value"}
    assert columns["number_z"].tolist() == pytest.approx([6, 6.5, -1])
    assert columns["number_p_value"].tolist() == [0.01, 0.2, 0.5]
    assert columns["number_sign_flip_p_value"].tolist() == [0.03, 0.1, 0.5]
    assert columns["number_p_value_floor"].tolist() == [0.02, 0.1, 1e-9]
    certain = measured([TESTED], pairs_of([0.8, 0.85, 0.1], **all_nulls(sd=0.0)))
    assert np.isnan(certain["number_z"]).all()


def test_a_null_without_a_law_is_what_was_drawn_and_unknown_without_draws():
    drawn_null = replace(PLAIN, null=Null(text="", law=None))
    pairs = pairs_of([0.6, 0.2])
    known = measured([drawn_null], pairs, {"number": (torch.tensor([0.2, 0.2]), torch.tensor([0.1, 0.2]))})
    assert known["number_null_sd"].tolist() == pytest.approx([0.1, 0.2])
    assert known["number_effect_size"].tolist() == pytest.approx([0.5, 0], abs=1e-7)
    for drawn in (None, {"other": (0.2, 0.1)}):
        unknown = measured([drawn_null], pairs, drawn)
        assert all(np.isnan(values).all() for name, values in unknown.items() if name != "number")


def test_companions_are_measured_of_the_pair_too():
    place = Column("place", "Int64", "where it is")
    observable = replace(PLAIN, companions=((place, lambda pairs: pairs.values.argsort()),))
    assert measured([observable], pairs_of([0.6, 0.2], null=(0.2, 0.1)))["place"].tolist() == [1, 0]


def test_q_values_are_those_of_scipy_within_each_family_of_rows_that_have_a_p_value():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "kind": rng.choice(["read", "write"], 60),
            "number_p_value": rng.uniform(size=60) ** 3,
            "number_sign_flip_p_value": rng.uniform(size=60) ** 3,
        },
        index=rng.permutation(60),
    )
    table.loc[[3, 8], ["number_p_value", "number_sign_flip_p_value"]] = np.nan
    found = q_values(table, TESTED, "kind")
    assert found.index.tolist() == table.index.drop([3, 8]).tolist()
    for _, family in table.drop([3, 8]).groupby("kind"):
        larger = family[["number_p_value", "number_sign_flip_p_value"]].max(axis=1)
        assert found[family.index].tolist() == stats.false_discovery_control(larger).tolist()
        assert (found[family.index] >= larger).all()


def test_rows_that_are_left_out_count_as_not_significant():
    p_values = np.random.default_rng(1).uniform(size=40) ** 4
    columns = {"kind": "read", "number_p_value": p_values, "number_sign_flip_p_value": 0.0}
    found = q_values(pd.DataFrame(columns), TESTED, "kind", {"read": 60, "write": 5})
    assert found.to_numpy() == pytest.approx(stats.false_discovery_control([*p_values, *[1.0] * 20])[:40], rel=1e-12)


def test_no_rows_have_no_q_values():
    columns = ["kind", *TESTED.p_value_columns]
    assert q_values(pd.DataFrame({name: [] for name in columns}), TESTED, "kind").empty


@pytest.mark.parametrize(("coordinates", "can_be_significant"), [(2, False), (7, False), (8, True), (30, True)])
def test_the_floor_says_where_no_alignment_could_become_significant(coordinates, can_be_significant):
    """Two equal lines: of n equal coordinates a share 2^(1 - n) of all signs leaves them equal."""
    line = torch.zeros(40, dtype=torch.float64)
    line[:coordinates] = coordinates**-0.5
    line[1::2] *= -1  # of one sign, the line would be what a common mean makes
    weight = torch.ones(5, 1, dtype=torch.float64) * line
    columns = measured([ABS_COSINE], layer_pair(weight, weight, rank=1))
    floor = float(columns["abs_cos_1_p_value_floor"])
    assert float(columns["abs_cos_1"]) == pytest.approx(1)
    assert float(columns["abs_cos_1_p_value"]) < 1e-9
    assert floor == float(columns["abs_cos_1_sign_flip_p_value"])
    assert (floor < 0.01) == can_be_significant
    assert floor == pytest.approx(2.0 ** (1 - coordinates), rel=0.01) or coordinates > 10
