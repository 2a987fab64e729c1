import math

import pytest
import torch

from flaggeo import MismatchError, analyze, compare
from flaggeo.comparison import change
from flaggeo.comparison.interference import _mean_given_base
from flaggeo.findings.comparison import interference_finding
from manifolds import overlap_moments, projection_overlap
from tests.builders import random_frame
from tests.flaggeo.comparison.planted_change import RANK, TOUCHED, base, base_network, frames, in_common, network, tuned


@pytest.mark.parametrize("held", [change._HELD, 0])
def test_random_changes_overlap_as_planted_and_as_unrelated_ones(monkeypatch, held):
    monkeypatch.setattr(change, "_HELD", held)
    found = in_common(network(tuned()), network(tuned(seed=1)))
    rows = found.set_index("tensor")
    assert list(rows.index) == sorted(TOUCHED, key=list(base()).index)
    for place, name in enumerate(TOUCHED):
        sides = zip(("write", "read"), frames(name, place), frames(name, place, seed=1), strict=True)
        for side, one, other in sides:
            mean, spread = overlap_moments(len(one), RANK, RANK)
            overlap = float(projection_overlap(one, other))
            numbers = rows.loc[name, [f"{side}_{part}" for part in ("overlap", "null_mean", "null_sd", "z")]]
            assert numbers.tolist() == pytest.approx([overlap, mean, spread, (overlap - mean) / spread], abs=1e-4)
    assert rows[["read_base_mean", "write_base_mean"]].to_numpy() == pytest.approx(1 / 7, abs=0.1)  # near the others
    verdict = interference_finding(found)
    assert (verdict.verdict, verdict.numbers["matrices"]) == ("as_unrelated", 6)


def test_the_mean_given_the_base_is_that_of_draws():
    """Planes in ten dimensions with a half and a quarter of them in a subspace of four: rotations that keep it."""
    generator = torch.Generator().manual_seed(5)

    def rotated(plane):
        turns = [torch.linalg.qr(torch.randn(3000, n, n, generator=generator, dtype=torch.float64)).Q for n in (4, 6)]
        return torch.cat([turn @ part for turn, part in zip(turns, plane.split([4, 6]), strict=True)], dim=1)

    planes = [torch.zeros(10, 2, dtype=torch.float64) for _ in range(2)]
    planes[0][[0, 4], [0, 1]] = 1
    planes[1][[0, 4], [0, 0]] = 2**-0.5
    planes[1][5, 1] = 1
    drawn = projection_overlap(*map(rotated, planes))
    found = _mean_given_base(*planes, [0.5, 0.25], 4)
    assert found == pytest.approx((1 * 0.5 / 4 + 1 * 1.5 / 6) / 2)
    assert found == pytest.approx(float(drawn.mean()), abs=4 * float(drawn.std()) / 3000**0.5)


def test_what_the_leading_subspace_of_the_base_explains_is_said_so():
    """Both changes lie in the leading six directions of a base that has no others, at random."""
    tensors = base()
    states = [dict(tensors) for _ in range(3)]
    for place, name in enumerate(TOUCHED):
        rows, columns = tensors[name].shape
        left, right = random_frame(rows, 6, seed=place), random_frame(columns, 6, seed=100 + place)
        weight = (left * torch.linspace(2, 1, 6, dtype=torch.float64)) @ right.mT
        for version, state in enumerate(states):
            inner = [random_frame(6, 2, seed=1000 * version + 10 * place + side) for side in (0, 1)]
            state[name] = weight + (1e-3 * left @ inner[0] @ inner[1].mT @ right.mT if version else 0)
    before, *after = map(network, states)
    found = in_common(*after, before=before, rank=6)
    assert found["read_base_mean"].to_numpy() == pytest.approx(2 * 2 / 6 / 2, abs=1e-6)
    assert interference_finding(found).verdict == "explained_by_base"


def test_the_same_directions_are_shared_whatever_their_size():
    once, twice = tuned(), tuned()
    for name in TOUCHED:
        twice[name] = base()[name] + 2 * (once[name] - base()[name])
    found = in_common(network(once), network(twice))
    assert found[["read_overlap", "write_overlap", "cosine"]].to_numpy() == pytest.approx(1, abs=1e-5)
    assert found["cosine_null_sd"].iloc[0] == 1 / math.sqrt(40 * 24)
    assert interference_finding(found).verdict == "same_change"


def test_directions_that_are_shared_by_other_changes_are_found():
    """The same input directions, other output directions."""
    states = [base(), base()]
    for version, state in enumerate(states):
        for place, name in enumerate(TOUCHED):
            rows, columns = state[name].shape
            left, right = (
                random_frame(rows, RANK, seed=9 + 100 * version + place),
                random_frame(columns, RANK, seed=place),
            )
            state[name] = state[name] + (left @ right.mT).float()
    found = in_common(*map(network, states))
    assert found["read_overlap"].to_numpy() == pytest.approx(1, abs=1e-5)
    assert found["write_overlap"].mean() < 0.3
    assert interference_finding(found).verdict == "shared"


def test_changes_of_other_matrices_do_not_meet():
    found = in_common(network(tuned(TOUCHED[:2])), network(tuned(TOUCHED[2:])))
    assert found.empty
    assert interference_finding(found).verdict == "absent"


def test_a_saved_analysis_has_no_matrices_to_hold_against_others():
    analysis = analyze(base_network(), rank=2, measure="continuity", roles=["o"], layers=[0])
    with pytest.raises(MismatchError, match="expected three checkpoints, found a saved analysis among them"):
        compare(analysis, tuned(), other=tuned(seed=1))
