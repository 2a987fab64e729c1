"""What a module answers when it is asked, where the answer can be seen from its code."""

import pytest
import torch
from torch import nn

from flaggeo.network.modules.linear_maps import Parameters
from flaggeo.network.modules.probing import Pattern, Questioner, UnsteadyModuleError
from flaggeo.network.modules.recording import record
from flaggeo.network.modules.running import evaluating


class Between(nn.Module):
    """A function between two convolutions of one position each."""

    def __init__(self, function, reads, writes=6):
        super().__init__()
        self.first, self.second, self.function = nn.Conv2d(3, writes, 1), nn.Conv2d(reads, 4, 1), function

    def forward(self, x):
        return self.second(self.function(self.first(x)))


def links(module, example):
    parameters = Parameters(module)
    with evaluating(module):
        recording = record(module, ((example,), {}), parameters)
        questioner = Questioner(module, ((example,), {}), parameters, recording)
        first = recording.maps[0]
        return [(link.reader, link.pattern) for link in questioner.links_from(first)], recording.maps


def pattern(function, reads, writes=6):
    torch.manual_seed(0)
    found, maps = links(Between(function, reads, writes), torch.randn(1, 3, 4, 4))
    return dict(found).get(maps[1])


def channels(x):
    return x.flatten(2).mT


@pytest.mark.parametrize(
    ("function", "reads", "expected"),
    [
        (torch.relu, 6, Pattern()),
        (lambda x: -torch.relu(-x - 100), 6, Pattern()),  # constant near and on one side
        (lambda x: torch.nn.functional.hardtanh(50 * x), 6, Pattern()),
        (lambda x: torch.nn.functional.layer_norm(x.movedim(1, -1), (6,)).movedim(-1, 1), 6, Pattern()),
        (lambda x: x / x.square().mean(1, keepdim=True).sqrt(), 6, Pattern()),  # a norm that is no module
        (lambda x: x - x.mean((2, 3), keepdim=True), 6, Pattern()),
        (lambda x: torch.cat([x.new_zeros(1, 2, 4, 4), x], 1), 8, Pattern(offset=2)),
        (lambda x: torch.cat([x, x], 1), 12, Pattern(2, positions_first=True)),
        (lambda x: x.repeat_interleave(2, 1), 12, Pattern(2)),
        (lambda x: x.flip(1), 6, None),
        (lambda x: torch.nn.functional.channel_shuffle(x, 3), 6, None),
        (lambda x: x.softmax(1), 6, None),
        (lambda x: x @ x.mT, 6, Pattern()),  # positions are mixed, channels are not
        (lambda x: (channels(x).softmax(-1) @ torch.ones(6, 6)).mT.view(1, 6, 4, 4), 6, None),
        (lambda x: torch.zeros_like(x), 6, None),
        (lambda x: x * torch.tensor([1.0, 1, 1, 0, 1, 1])[:, None, None], 6, Pattern()),  # one channel is dead
    ],
)
def test_channels_are_found_again_where_nothing_mixes_them(function, reads, expected):
    assert pattern(function, reads) == expected


def test_a_flattened_image_has_several_columns_for_each_channel():
    module = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Flatten(), nn.Linear(5 * 9, 2))
    found, maps = links(module, torch.randn(1, 3, 3, 3))
    assert dict(found)[maps[1]] == Pattern(9)


def test_sums_and_outputs_show_their_axes():
    module = nn.Sequential(nn.Linear(3, 5), nn.Identity())
    found, _ = links(module, torch.randn(2, 3))
    assert [(reader.kind, reader.axis) for reader, _ in found] == [("output", 1)]


class Forked(nn.Module):
    """Which map is applied depends on numbers."""

    def __init__(self):
        super().__init__()
        self.first, self.left, self.right = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x):
        y = self.first(x)
        return self.left(y) if bool((y.abs() < 100).all()) else self.right(y)


def test_a_module_that_takes_another_way_says_nothing_of_that_way():
    found, maps = links(Forked(), torch.zeros(1, 3))
    assert dict(found)[maps[1]] == Pattern()


class Unsteady(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.calls = nn.Linear(3, 4), 0

    def forward(self, x):
        self.calls += 1
        return self.linear(x) + self.calls


def test_a_module_that_never_does_the_same_cannot_be_asked():
    with pytest.raises(UnsteadyModuleError):
        links(Unsteady(), torch.zeros(2, 3))
