from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from flaggeo.alignment import continuity_table
from flaggeo.alignment.depth.layer_pair import LayerPair
from flaggeo.alignment.depth.significance import step_chance, step_q_values
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from tests.builders import chain_of, random_frame

STEP_COLUMNS = ["p_value", "sign_flip_mean", "sign_flip_p_value", "q_value"]


def reading(direction, *, seed):
    """Weight that reads this direction, and writes one of its own."""
    return 5 * random_frame(20, 1, seed=seed) @ direction[None]


def steps_of(directions):
    """Rows of the continuity of weights that read these."""
    table = continuity_table(*chain_of([reading(line, seed=seed) for seed, line in enumerate(directions)], rank=1))
    return table[table["side"] == "read"]


def test_the_p_value_is_that_of_simulated_lines():
    lines = torch.nn.functional.normalize(torch.randn(40_000, 2, 12, generator=torch.Generator().manual_seed(0)), dim=2)
    cosines = (lines[:, 0] * lines[:, 1]).sum(dim=1).abs()
    for angle in (0.3, 0.9, 1.2):
        direction = torch.eye(12, dtype=torch.float64)[0]
        turned = direction.clone()
        turned[:2] = torch.tensor([np.cos(angle), np.sin(angle)])
        [p_value] = steps_of([direction, turned])["p_value"]
        share = float((cosines >= np.cos(angle)).double().mean())
        assert share == pytest.approx(p_value, abs=4 * (p_value / len(lines)) ** 0.5)


def test_unrelated_steps_have_even_p_values_and_no_discovery():
    directions = random_frames(300)
    rows = steps_of(directions)
    for column in ("p_value", "sign_flip_p_value"):
        assert stats.kstest(rows[column], "uniform").pvalue > 0.01
    assert rows["q_value"].min() > 0.05


def random_frames(count, n=50):
    return [random_frame(n, 1, seed=1000 + seed)[:, 0] for seed in range(count)]


def test_a_direction_spread_out_is_found_and_one_on_a_loud_coordinate_is_not():
    spread, loud = torch.ones(50, dtype=torch.float64) / 50**0.5, torch.eye(50, dtype=torch.float64)[7]
    [found] = steps_of([spread, spread]).to_dict("records")
    assert max(found["p_value"], found["sign_flip_p_value"], found["q_value"]) < 1e-9
    assert found["sign_flip_mean"] == pytest.approx((2 / np.pi / 50) ** 0.5, rel=0.02)
    [explained] = steps_of([loud, loud]).to_dict("records")
    assert explained["p_value"] < 1e-9
    assert (explained["sign_flip_mean"], explained["sign_flip_p_value"]) == (pytest.approx(1), 1)
    assert explained["q_value"] == 1


def test_the_steps_that_carry_over_are_told_from_those_that_do_not():
    kept, others = random_frames(1)[0], random_frames(7)[1:]
    rows = steps_of([others[0], others[1], kept, kept, kept, others[2], others[3], others[4]])
    assert (rows["q_value"] < 0.01).tolist() == [False, False, True, True, False, False, False]


def test_a_family_is_one_side_of_all_roles_and_has_no_sides_without_a_common_space():
    up = continuity_table(*chain_of([torch.randn(9, 30, generator=torch.Generator().manual_seed(s)) for s in range(6)]))
    both = up.assign(shared_space=True)
    for table, expected in ((up, up["side"] == "read"), (both, both["side"] != "")):
        found = step_q_values(table)
        assert found.index.tolist() == table.index[expected].tolist()
    larger = both[["p_value", "sign_flip_p_value"]].max(axis=1)
    for side in ("read", "write"):
        of_side = (both["side"] == side).to_numpy()
        np.testing.assert_allclose(
            step_q_values(both)[of_side], stats.false_discovery_control(larger[of_side]), rtol=1e-12
        )
    assert up.loc[up["side"] == "write", "q_value"].isna().all()
    assert up.loc[up["side"] == "write", ["p_value", "sign_flip_p_value"]].notna().all(axis=None)


def test_a_zero_weight_has_no_p_values_and_leaves_the_others_theirs():
    directions = random_frames(3)
    matrices = [reading(line, seed=seed) for seed, line in enumerate(directions)]
    whole, broken = (
        continuity_table(*chain_of(weights, rank=1)).query("side == 'read'")
        for weights in (matrices[:2], [*matrices[:2], torch.zeros(20, 50)])
    )
    assert broken.iloc[1][STEP_COLUMNS].isna().all()
    assert broken.iloc[0][STEP_COLUMNS].tolist() == whole.iloc[0][STEP_COLUMNS].tolist()


@pytest.mark.parametrize("layers", [0, 1])
def test_no_steps_have_no_p_values(layers):
    table = continuity_table(*chain_of([torch.randn(9, 30)] * layers))
    assert len(table) == len(step_q_values(table)) == 0
    assert set(STEP_COLUMNS) <= set(table.columns)


def test_signs_of_the_vectors_do_not_matter_and_a_rotation_moves_the_sign_flips_alone():
    spread = torch.ones(50, dtype=torch.float64) / 50**0.5
    first, second = torch.stack([spread, spread + random_frames(1)[0]])
    plain, turned = (
        steps_of([first @ turn, second @ turn / second.norm()]).iloc[0]
        for turn in (torch.eye(50, dtype=torch.float64), random_frame(50, 50, seed=4))
    )
    flipped = steps_of([first, -second / second.norm()]).iloc[0]
    assert flipped[STEP_COLUMNS].tolist() == pytest.approx(plain[STEP_COLUMNS].tolist())
    assert turned["p_value"] == pytest.approx(plain["p_value"])
    assert turned["sign_flip_mean"] != pytest.approx(plain["sign_flip_mean"], rel=1e-3)


def test_single_precision():
    matrices = [torch.randn(20, 30, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    double = [leading_spectrum(matrix.double(), 2) for matrix in matrices]
    single = [replace(s, all_values=s.all_values.float(), left=s.left.float(), right=s.right.float()) for s in double]
    found, expected = (step_chance(LayerPair(*spectra, Side.READ)) for spectra in (single, double))
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-4)


def test_the_mean_is_that_of_the_drawn_sign_flips():
    """Which the table of nulls has for a role."""
    lines = random_frames(4, n=24)
    rows = steps_of(lines)
    signs = 2.0 * torch.randint(0, 2, (20_000, 24), generator=torch.Generator().manual_seed(0)) - 1
    drawn = [float((signs.double() @ (first * second)).abs().mean()) for first, second in pairwise(lines)]
    assert rows["sign_flip_mean"].tolist() == pytest.approx(drawn, rel=0.03)
