"""One rule for all verdicts, and that a wrong law changes them."""

import json
from dataclasses import replace
from math import isnan, nan
from statistics import fmean, stdev

import pytest
import torch
from scipy.stats import ttest_ind

from flaggeo.claims import Case, Claim, Outcome, Reference, Verdict, judge
from flaggeo.claims import claims as known
from flaggeo.claims.experiments import ridge
from tests.flaggeo.claims.builders import Planted

LOW, HIGH = Planted("low", "low", (0.1, 0.2)), Planted("high", "high", (0.8, 0.9))
NUMBERS = {"low": {"value": LOW.values}, "high": {"value": HIGH.values}, "none": {"value": (nan, 0.5)}}


def verdict(*cases, universal=False):
    return judge(Claim("name", "sentence", "source", cases, universal=universal), NUMBERS).verdict


RIGHT, WRONG = Case(HIGH, "value", least=0.5), Case(LOW, "value", least=0.5)


@pytest.mark.parametrize(
    ("cases", "universal", "expected"),
    [
        ([RIGHT], False, Verdict.HOLDS),
        ([RIGHT], True, Verdict.HOLDS),
        ([RIGHT, WRONG], False, Verdict.NOT_REPRODUCED),
        ([RIGHT, WRONG], True, Verdict.NOT_REPRODUCED),
        ([RIGHT, replace(WRONG, stated=False)], False, Verdict.CONDITIONAL),
        ([RIGHT, replace(WRONG, stated=False)], True, Verdict.FALSE),
        ([WRONG, replace(WRONG, stated=False)], True, Verdict.NOT_REPRODUCED),
        ([], True, Verdict.UNTESTED),
    ],
)
def test_the_rule(cases, universal, expected):
    assert verdict(*cases, universal=universal) is expected


@pytest.mark.parametrize(
    ("case", "holds"),
    [
        (Case(LOW, "value", most=0.2), True),
        (Case(LOW, "value", most=0.15), False),  # the mean would do
        (Case(HIGH, "value", least=0.6, minus=LOW), True),
        (Case(HIGH, "value", least=0.71, minus=LOW), False),
        (Case(Planted("none", "undefined"), "value", most=9), False),
    ],
)
def test_a_case_holds_if_it_does_for_every_seed(case, holds):
    (outcome,) = judge(Claim("name", "sentence", "source", (case,)), NUMBERS).outcomes
    assert outcome.holds is holds


def test_differences_are_taken_seed_by_seed():
    case = Case(HIGH, "value", least=0, minus=LOW)
    (outcome,) = judge(Claim("name", "sentence", "source", (case,)), NUMBERS).outcomes
    assert outcome.values == pytest.approx((0.7, 0.7))
    assert outcome.deviation == pytest.approx(0)


def test_differences_are_over_the_seeds_of_both():
    more = Planted("more", "more", (0.5, 0.7), seeds=(2, 3))
    case = Case(more, "value", least=0, minus=LOW)
    numbers = NUMBERS | {"more": {"value": more.values}}
    (outcome,) = judge(Claim("name", "sentence", "source", (case,)), numbers).outcomes
    assert outcome.values == pytest.approx((0.3,))


def test_the_distance_from_a_reference_is_that_of_students_test():
    earlier = (0.02, 0.05, 0.08)
    case = Case(LOW, "value", most=1, reference=Reference(fmean(earlier), stdev(earlier), 3))
    (outcome,) = judge(Claim("name", "sentence", "source", (case,)), NUMBERS).outcomes
    assert outcome.distance == pytest.approx(ttest_ind(LOW.values, earlier).statistic)


def test_a_single_value_has_the_deviation_of_the_reference():
    outcome = Outcome(Case(LOW, "value", most=1, reference=Reference(0.05, 0.03, 3)), (0.15,))
    assert outcome.distance == pytest.approx(0.1 / (0.03 * (1 + 1 / 3) ** 0.5))


@pytest.mark.parametrize("reference", [None, Reference(0.05)])
def test_without_a_spread_there_is_no_distance(reference):
    case = Case(LOW, "value", most=1, reference=reference)
    (outcome,) = judge(Claim("name", "sentence", "source", (case,)), NUMBERS).outcomes
    assert outcome.distance is None


def test_a_judgement_is_plain_json():
    cases = (RIGHT, Case(Planted("none", "undefined"), "value", most=9, paper="0.3"))
    record = judge(Claim("name", "sentence", "source", cases), NUMBERS).as_dict()
    record = json.loads(json.dumps(record, allow_nan=False))
    assert record["verdict"] == "not reproduced"
    assert [case["values"] for case in record["cases"]] == [[0.8, 0.9], [None, 0.5]]
    assert [case["expected"] for case in record["cases"]] == ["≥ 0.5", "≤ 9"]


SHORT = {"decay-linear-0.05": 320, "decay-deep": 320}


def measured_again(name):
    """A claim with its cases on short trainings, and the numbers of these."""
    (claim,) = known([name])
    short = [case for case in claim.cases if case.experiment.name in SHORT]
    quick = {name: replace(one.experiment, steps=SHORT[name]) for one in short if (name := one.experiment.name)}
    numbers = {name: one.run(device="cpu", progress=lambda *_: None) for name, one in quick.items()}
    return judge(replace(claim, cases=tuple(short)), numbers)


def test_a_planted_wrong_law_changes_the_verdict(monkeypatch):
    """The penalty λ|W|² in place of λ/2 |W|² doubles the rate."""
    assert measured_again("imbalance_decay").verdict is Verdict.HOLDS

    real = ridge.replace
    monkeypatch.setattr(
        ridge, "replace", lambda recipe, **changes: real(recipe, **{k: 2 * v for k, v in changes.items()})
    )
    wrong = measured_again("imbalance_decay")
    assert wrong.verdict is Verdict.NOT_REPRODUCED
    assert torch.tensor([outcome.mean for outcome in wrong.outcomes]).sub(2).abs().max() < 0.02


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_undefined_or_infinite_number_is_shown_and_never_right(value):
    outcome = Outcome(Case(Planted("one", "one"), "value", least=0), (value, 0.5))
    assert not outcome.holds
    assert isnan(outcome.deviation)
    assert outcome.as_dict()["values"] == [None, 0.5]
    assert "0.5" not in outcome.measured
