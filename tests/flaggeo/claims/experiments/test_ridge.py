"""The experiment on ridge: interfaces of a chain, and agreement with the laws."""

from dataclasses import replace

import pytest

from flaggeo.claims.experiments.ridge import RidgeExperiment

SMALL = RidgeExperiment("small", "small", "linear-teacher", 0.05, rate=0.05, steps=1600)


def run(experiment):
    return experiment.run(device="cpu", progress=lambda *_: None)


def test_a_linear_pair_obeys_the_laws_and_comes_to_be_aligned():
    numbers = run(SMALL)
    assert list(numbers) == list(SMALL.numbers)
    assert numbers["imbalance_rate"] == pytest.approx((1, 1, 1), abs=0.01)
    assert min(numbers["overlap"]) > 0.99
    assert max(numbers["imbalance"]) < 0.02


def test_every_interface_of_a_longer_chain_has_its_numbers():
    deep = replace(SMALL, widths=(16, 10, 8, 4), scales=(1.0,) * 3, steps=320, activation="tanh")
    numbers = run(deep)
    assert list(numbers) == list(deep.numbers)
    assert {"imbalance", "imbalance.2"} <= numbers.keys()
    assert numbers["imbalance"] != numbers["imbalance.2"]


def test_decoupled_decay_is_that_of_adamw():
    with_decay, without = (run(replace(SMALL, optimizer="adamw", ridge=ridge, steps=160)) for ridge in (0.5, 1e-9))
    assert with_decay["imbalance"] != without["imbalance"]
