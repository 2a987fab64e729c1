"""Runs in which nothing but what lies between the maps is computed anew."""

import pytest
import torch
from torch import nn

from flaggeo.network.modules.linear_maps import Parameters
from flaggeo.network.modules.recording import record
from flaggeo.network.modules.replaying import OtherWayError, Point, Replay
from flaggeo.network.modules.running import evaluating
from tests.flaggeo.network.modules.models import MODULES, Rms, seeded


def replays(module, example, moved):
    """Changes of a run in which the first map returns something else, and the inputs of all others then."""
    parameters = Parameters(module)
    with evaluating(module):
        recording = record(module, ((example,), {}), parameters)
        reference = Replay(parameters, recording, {}).run(module, ((example,), {}))
        first = recording.writers[0]
        replay = Replay(parameters, recording, {first: [moved(recording.calls[0][1])]}, reference)
        return replay.run(module, ((example,), {})).changes(), recording.maps


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), seeded(Rms, 6), nn.Identity()])
def test_a_change_passes_sums_and_norms_and_stops_at_maps(norm):
    module = nn.Sequential(nn.Linear(3, 6), norm, nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 2))
    changes, maps = replays(module, torch.randn(2, 3), lambda out: out + torch.tensor([0, 1, 0, 0, 0, 1.0]))
    assert changes[maps[1]][0].tolist() == [False, True, False, False, False, True]
    assert not changes[maps[2]][0].any()
    assert not changes[Point("output", 0, 1)][0].any()


def test_what_is_added_is_looked_at_along_all_axes():
    module, example = MODULES["gpt"]()
    moved = torch.zeros(16)
    moved[3] = 1
    changes, _ = replays(module, example, lambda out: out + moved)
    seen = {point.axis: found[0] for point, found in changes.items() if isinstance(point, Point) and point.number == 1}
    assert seen[2].nonzero().flatten().tolist() == [3]
    assert bool(seen[1].all())


class Grown(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        y = self.first(x)
        return self.second(y[: 1 + int(y[0, 0] > 100)])


def test_activations_of_another_shape_cannot_be_compared():
    with pytest.raises(OtherWayError):
        replays(Grown(), torch.zeros(2, 2), lambda out: out + 200)
