import math

import pytest

from flaggeo import MismatchError, analyze, compare, load
from flaggeo.findings import comparison_findings
from manifolds import overlap_moments, projection_overlap
from tests.flaggeo.comparison.planted_change import RANK, TOUCHED, base, frames, tuned


def compared(second, third):
    return compare(base(), second, other=third, rank=RANK, measure="continuity", roles=["o"])


def interference(comparison):
    return next(found for found in comparison_findings(comparison) if found.kind == "interference")


def test_random_changes_overlap_as_planted_and_as_unrelated_ones():
    found = compared(tuned(), tuned(seed=1))
    rows = found.interference.set_index("tensor")
    assert list(rows.index) == sorted(TOUCHED, key=list(base()).index)
    for place, name in enumerate(TOUCHED):
        sides = zip(("write", "read"), frames(name, place), frames(name, place, seed=1), strict=True)
        for side, one, other in sides:
            mean, spread = overlap_moments(len(one), RANK, RANK)
            overlap = float(projection_overlap(one, other))
            numbers = rows.loc[name, [f"{side}_{part}" for part in ("overlap", "null_mean", "null_sd", "z")]]
            assert numbers.tolist() == pytest.approx([overlap, mean, spread, (overlap - mean) / spread], abs=1e-4)
    verdict = interference(found)
    assert (verdict.verdict, verdict.numbers["matrices"]) == ("as_unrelated", 6)


def test_the_same_directions_are_shared_whatever_their_size():
    once, twice = tuned(), tuned()
    for name in TOUCHED:
        twice[name] = base()[name] + 2 * (once[name] - base()[name])
    found = compared(once, twice)
    assert found.interference[["read_overlap", "write_overlap", "cosine"]].to_numpy() == pytest.approx(1, abs=1e-5)
    assert found.interference["cosine_null_sd"].iloc[0] == 1 / math.sqrt(40 * 24)
    assert interference(found).verdict == "shared"
    assert set(found.tensors["version"]) == {"b", "c"}


def test_changes_of_other_matrices_do_not_meet():
    found = compared(tuned(TOUCHED[:2]), tuned(TOUCHED[2:]))
    assert found.interference.empty
    assert interference(found).verdict == "absent"


def test_two_checkpoints_have_nothing_in_common_to_tell_of():
    found = compare(base(), tuned(), rank=2, measure="continuity", roles=["o"])
    assert found.interference.empty
    assert "interference" not in {one.kind for one in comparison_findings(found)}


def test_a_saved_analysis_has_no_matrices_to_hold_against_others():
    analysis = analyze(load(base()), rank=2, measure="continuity", roles=["o"])
    with pytest.raises(MismatchError, match="expected three checkpoints, found a saved analysis among them"):
        compare(analysis, tuned(), other=tuned(seed=1))
