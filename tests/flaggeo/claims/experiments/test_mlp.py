"""The experiment on continuity: every number is there, and is what its name says."""

from dataclasses import replace

import pytest

from flaggeo.claims.experiments.mlp import MlpExperiment

SMALL = MlpExperiment("small", "small", "digits", True, "relu", width=12, depth=3, steps=50, batch=16)


def run(experiment):
    return experiment.run(device="cpu", progress=lambda *_: None)


def test_every_number_of_every_seed():
    numbers = run(SMALL)
    assert list(numbers) == list(SMALL.numbers)
    assert {len(values) for values in numbers.values()} == {len(SMALL.seeds)}
    for name, values in numbers.items():
        low, high = {"drift": (0, 90), "coherence_gap": (-1, 1)}.get(name, (0, 20))
        assert all(low <= value <= high for value in values), name
    for lowest, last, highest in zip(*(numbers[name] for name in ("lowest_read", "read", "highest_read")), strict=True):
        assert lowest <= last <= highest


def test_a_training_without_movement_has_neither_update_nor_drift():
    numbers = run(replace(SMALL, optimizer="sgd", rate=0.0))
    assert numbers["update_ratio"] == (0,) * 5
    assert max(numbers["drift"]) < 0.1
    assert numbers["read"] == numbers["lowest_read"] == numbers["highest_read"]


def test_gradients_that_underflow_are_undefined():
    numbers = run(replace(SMALL, residual=False, activation="radial", depth=16))
    assert all(value != value for value in numbers["first_gradient_read"])
    assert numbers["read"] == pytest.approx(run(replace(SMALL, depth=16, optimizer="sgd", rate=0.0))["read"], abs=1e-3)
