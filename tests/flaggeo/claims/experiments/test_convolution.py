"""The experiment on convolutions: every number is there, and is what its name says."""

from flaggeo.claims.experiments.convolution import ConvolutionExperiment

SMALL = ConvolutionExperiment("small", "small", True, "relu", channels=4, depth=3, steps=2, batch=4, seeds=(1, 2))


def test_every_number_of_every_seed():
    numbers = SMALL.run(device="cpu", progress=lambda *_: None)
    assert list(numbers) == list(SMALL.numbers)
    assert {len(values) for values in numbers.values()} == {2}
    assert all(0 <= value <= 1 for values in numbers.values() for value in values)
    assert len(set(numbers.values())) == len(numbers)
