"""Mean overlaps of experts against brute force and draws, and the closest two."""

import numpy as np
import pytest
import torch

from flaggeo.alignment.chance.sign_flip import sign_flipped
from flaggeo.alignment.experts.expert_pairs import EXPERT_OVERLAP, ExpertPairs
from flaggeo.alignment.table import measured
from manifolds import projection_overlap, uniform_frame
from tests.builders import random_frame
from tests.flaggeo.alignment.experts.builders import KINDS, experts_of, layer_of, uniform

DRAWS = 1500


def within(experts):
    return ExpertPairs(experts, experts)


def mean_overlap(pairs):
    return float(EXPERT_OVERLAP.measure(pairs))


def moments(pairs):
    return {null.name: null.law(pairs) for null in EXPERT_OVERLAP.nulls}


def agrees(law, drawn):
    mean, sd = law
    drawn = np.array(drawn)
    assert mean == pytest.approx(drawn.mean(), abs=5 * drawn.std() / len(drawn) ** 0.5)
    assert sd == pytest.approx(drawn.std(), rel=0.12)


def test_the_mean_is_that_of_the_overlaps_of_all_pairs():
    first, second = uniform(3, 9, 2, seed=1), uniform(4, 9, 2, seed=2)
    across = ExpertPairs(experts_of(first), experts_of(second))
    assert mean_overlap(across) == pytest.approx(
        np.mean([float(projection_overlap(one, other)) for one in first for other in second])
    )
    assert mean_overlap(within(experts_of(second))) == pytest.approx(
        np.mean([float(projection_overlap(second[e], second[f])) for e in range(4) for f in range(e)])
    )


def test_subspaces_of_several_dimensions_count_by_the_smaller_of_two():
    frames = [random_frame(9, 3, seed=1), random_frame(9, 1, seed=2), random_frame(9, 2, seed=3)]
    shared = [
        float((one.mT @ other).square().sum())
        for one, other in ((frames[0], frames[1]), (frames[0], frames[2]), (frames[1], frames[2]))
    ]
    assert mean_overlap(within(experts_of(frames))) == pytest.approx(sum(shared) / (1 + 2 + 1))


def test_the_moments_across_are_those_of_layers_that_are_turned_as_a_whole():
    """Also where the experts of a layer are alike."""
    generator = torch.Generator().manual_seed(0)
    for kind in ("uniform", "alike"):
        first, second = (layer_of(kind, 12, 2, seed=seed, count=3) for seed in (1, 2))
        laws = moments(ExpertPairs(first, second))
        turned, flipped = [], []
        for _ in range(DRAWS):
            turn = uniform_frame(12, 12, generator=generator, dtype=torch.float64)
            turned.append(mean_overlap(ExpertPairs(first, experts_of(turn @ frame for frame in second.frames))))
            signs = sign_flipped(torch.ones(12, 1, dtype=torch.float64), generator)
            flipped.append(mean_overlap(ExpertPairs(first, experts_of(signs * frame for frame in second.frames))))
        agrees(laws["null"], turned)
        agrees(laws["sign_flip"], flipped)


def test_the_moments_within_are_those_of_experts_that_are_turned_one_by_one():
    generator = torch.Generator().manual_seed(0)
    experts = layer_of("alike", 12, 2, seed=1, count=3)
    laws, turned, flipped = moments(within(experts)), [], []
    for _ in range(DRAWS):
        turned.append(mean_overlap(within(experts_of(uniform_frame(12, 2, (3,), generator=generator).double()))))
        flipped.append(mean_overlap(within(experts_of(sign_flipped(frame, generator) for frame in experts.frames))))
    agrees(laws["null"], turned)
    agrees(laws["sign_flip"], flipped)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_unrelated_experts_are_hardly_ever_found_alike(kind):
    """At 1 %: of 50 layers, and of 100 closest pairs, 2 and 3 are three standard errors above."""
    small = {"within": 0, "across": 0, "closest": 0}
    for seed in range(50):
        first, second = (layer_of(kind, 24, 2, seed=2 * seed + place) for place in range(2))
        for name, pairs in (("within", within(first)), ("across", ExpertPairs(first, second))):
            columns = measured((EXPERT_OVERLAP,), pairs)
            small[name] += max(columns[column] for column in EXPERT_OVERLAP.p_value_columns) <= 0.01
            small["closest"] += columns["closest_q_value"] <= 0.01
    assert small["within"] <= 2
    assert small["across"] <= 2
    assert small["closest"] <= 3


def test_alike_experts_are_found_within_and_not_across():
    first, second = (layer_of("alike", 24, 2, seed=seed) for seed in (1, 2))
    columns = measured((EXPERT_OVERLAP,), within(first))
    assert columns["overlap"] > 0.7
    assert max(columns[column] for column in EXPERT_OVERLAP.p_value_columns) < 1e-4
    assert columns["alike"] == 6
    columns = measured((EXPERT_OVERLAP,), ExpertPairs(first, second))
    assert columns["overlap_p_value"] > 0.05


def test_the_closest_pair_is_the_planted_one():
    frames = uniform(5, 40, 3, seed=1)
    frames[3] = frames[1]
    columns = measured((EXPERT_OVERLAP,), within(experts_of(frames)))
    assert columns["largest_overlap"] == pytest.approx(1)
    assert (columns["closest_expert"], columns["closest_next_expert"], columns["alike"]) == (1, 3, 1)
    assert columns["closest_q_value"] < 1e-4
    other = ExpertPairs(experts_of(uniform(4, 40, 3, seed=2)), experts_of([*uniform(2, 40, 3, seed=3), frames[0]]))
    assert measured((EXPERT_OVERLAP,), other)["largest_overlap"] < 0.5


def test_another_order_of_the_experts_changes_no_number_but_theirs():
    first, second = (layer_of("outlier channels", 24, 2, seed=seed) for seed in (1, 2))
    for pairs in (within(first), ExpertPairs(first, second)):
        turned = experts_of(first.frames[::-1], first.channel_norms[::-1])
        again = within(turned) if pairs.is_within else ExpertPairs(turned, second)
        before, after = (measured((EXPERT_OVERLAP,), one) for one in (pairs, again))
        for name in before:
            if name not in ("closest_expert", "closest_next_expert"):
                assert before[name] == pytest.approx(after[name], rel=1e-4, abs=1e-7), name
        ends = ("closest_expert",) if not pairs.is_within else ("closest_expert", "closest_next_expert")
        assert sorted(3 - float(before[name]) for name in ends) == sorted(float(after[name]) for name in ends)
