import torch

from flaggeo.alignment.chance.seeds import seeded_generator


def drawn(seed, stream):
    return torch.randn(4, generator=seeded_generator(seed, stream, torch.device("cpu"))).tolist()


def test_a_stream_is_told_by_seed_and_name_and_by_nothing_that_was_drawn_before():
    first = drawn(0, "layers.0.q")
    torch.manual_seed(1)
    assert drawn(0, "layers.0.q") == first
    assert first not in (drawn(1, "layers.0.q"), drawn(0, "layers.0.k"))
