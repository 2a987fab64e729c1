"""The experiment on a transformer: every number is there, and is that of the projection in its name."""

from dataclasses import replace

import pytest

from flaggeo.claims import Size
from flaggeo.claims.experiments.transformer import PROJECTIONS, TransformerExperiment

SMALL = TransformerExperiment("small", "small", width=12, hidden=14, depth=3, heads=2, steps=2, batch=2, seeds=(1, 2))


def test_every_number_of_every_seed():
    numbers = SMALL.run(device="cpu", progress=lambda *_: None)
    assert list(numbers) == list(SMALL.numbers)
    assert len(numbers) == 1 + 5 * len(PROJECTIONS)
    assert {len(values) for values in numbers.values()} == {2}
    assert numbers["loss"] == pytest.approx((5.545,) * 2, abs=0.1)  # log 256
    del numbers["loss"]
    assert all(0 <= value <= 1 for values in numbers.values() for value in values)
    assert len(set(numbers.values())) == len(numbers)


def test_the_size_of_the_paper_and_what_the_numbers_depend_on():
    large = SMALL.at(Size.PAPER)
    assert (large.width, large.hidden, large.depth, large.heads) == (256, 1024, 8, 2)
    assert (large.steps, large.batch, large.length) == (10_000, 128, 128)
    assert SMALL.at(Size.LAPTOP) == SMALL
    assert SMALL.settings["python"].startswith("3.")
    assert replace(SMALL, residual=False).settings != SMALL.settings
