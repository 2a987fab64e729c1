"""The experiments on orbits, heads, collapse, smoothed gradients and forgetting, on short trainings."""

from dataclasses import replace

import pytest

from flaggeo.claims.alignment import CLASSIFICATION
from flaggeo.claims.experiments import descent
from flaggeo.claims.laws import ADAMW_HEADS, FORGETTING, HEADS, NOT_POLYSTABLE, POLYSTABLE, SMOOTHING

SHORT = {
    "polystable": replace(POLYSTABLE, steps=1000, seeds=(1, 2)),
    "not polystable": replace(NOT_POLYSTABLE, steps=2000, seeds=(1, 2)),
    "heads": replace(HEADS, steps=160, seeds=(1, 2)),
    "adamw": replace(ADAMW_HEADS, steps=64, seeds=(1, 2)),
    "classification": replace(CLASSIFICATION["relu", 5e-3], steps=96, seeds=(1, 2)),
    "smoothing": replace(SMOOTHING, width=12, depth=3, steps=60, batch=16, seeds=(1, 2)),
    "forgetting": replace(FORGETTING, width=16, depth=2, steps=300, tuning_steps=60, early=10, seeds=(1, 2)),
}


@pytest.fixture(scope="module")
def measured():
    return {name: one.run(device="cpu", progress=lambda *_: None) for name, one in SHORT.items()}


@pytest.mark.parametrize("name", SHORT)
def test_every_number_of_every_seed(measured, name):
    assert list(measured[name]) == list(SHORT[name].numbers)
    assert {len(values) for values in measured[name].values()} == {2}


def test_a_polystable_pair_is_balanced_and_another_degenerates(measured):
    reached, missed = measured["polystable"], measured["not polystable"]
    assert max(reached["excess"]) < 1e-6 < 1e-4 < min(missed["excess"])
    assert min(reached["overlap"]) > 0.999
    assert max(missed["overlap"]) < 0.1
    assert missed["exponent"] == pytest.approx((-1, -1), abs=0.2)


def test_the_descent_keeps_the_product(monkeypatch):
    products = []
    monkeypatch.setattr(
        descent, "_cosines", lambda first, second: products.append(second @ first) or first.new_ones(1, 2)
    )
    replace(POLYSTABLE, steps=200, seeds=(1,)).run(device="cpu", progress=None)
    first, second = POLYSTABLE._planted(1)
    assert (products[0][0] - second @ first).abs().max() < 1e-10


def test_heads_obey_the_law_from_the_first_steps_and_the_mlp_does_not(measured):
    found = measured["heads"]
    for pair in ("query_key", "value_output"):
        assert found[f"{pair}_rate"] == pytest.approx((1, 1), abs=0.01)
    assert min(abs(rate - 1) for rate in found["mlp_rate"]) > 0.03
    assert max(abs(rate - 1) for rate in measured["adamw"]["query_key_rate"]) > 0.1


def test_the_gain_is_a_difference_of_what_is_measured(measured):
    found = measured["smoothing"]
    for gain, long, latest in zip(found["gain"], found["smoothed_1000"], found["latest"], strict=True):
        assert gain == pytest.approx(long - latest)
        assert 0 <= latest <= 1


def test_other_inputs_are_forgotten_more_than_the_same(measured):
    found = measured["forgetting"]
    for control, largest in zip(found["control_forgetting"], found["largest_forgetting"], strict=True):
        assert largest > control + 0.05
    assert all(-1 <= rank <= 1 for rank in found["drift_rank"] + found["update_rank"])


def test_without_movement_nothing_is_forgotten():
    still = replace(SHORT["forgetting"], rate=0.0, steps=1, tuning_steps=2, early=1).run(
        device="cpu", progress=lambda *_: None
    )
    assert still["control_forgetting"] == still["largest_forgetting"] == (0, 0)
    assert max(still["control_drift"]) < 0.1
    assert all(rank != rank for rank in still["drift_rank"])
