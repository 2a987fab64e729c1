import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from flaggeo import MismatchError, Trace, analyze, load, trace
from manifolds import abs_cosine_moments
from tests.builders import CONFIG, LAYERS, save_folder, tiny_llama, with_gains
from tests.flaggeo.checkpoint.test_adapter import factors_of, save_adapter
from tests.flaggeo.tracing.planted_run import SHARES, STEPS, checkpoint, direction

RANK = 3
TABLES = Trace.table_names()


MEASURE = ("continuity", "interfaces", "spectra")


@pytest.fixture(scope="module")
def planted():
    shuffled = (3, 0, 4, 2, 1)
    runs = [checkpoint(SHARES[i]) for i in shuffled]
    return trace(runs, steps=[STEPS[i] for i in shuffled], rank=RANK, measure=MEASURE)


def test_continuity_of_the_converging_role_rises_as_planted_and_no_other_moves(planted):
    summary = planted.summary[planted.summary["shared_space"]]
    courses = summary.pivot(index="step", columns=["role", "side"], values="abs_cos_1")
    # Two directions that went the same share of a right angle to a common one, from orthogonal starts.
    expected = [math.sin(share * math.pi / 2) ** 2 for share in SHARES]
    assert courses.index.tolist() == list(STEPS)
    np.testing.assert_allclose(courses["up", "read"], expected, atol=1e-6)
    assert courses["up", "read"].is_monotonic_increasing
    others = courses.drop(columns=[("up", "read")])
    assert (others.std() < 1e-9).all()


def test_drift_is_the_planted_angle_from_the_first_and_from_the_previous_checkpoint(planted):
    drift = planted.drift.query("role == 'up' and side == 'read'")
    for since, starts in (("first", [0.0] * len(SHARES)), ("previous", SHARES[:-1])):
        rows = drift[drift["since"] == since]
        for step, share, start in zip(STEPS[-len(starts) :], SHARES[-len(starts) :], starts, strict=True):
            at_step = rows[rows["step"] == step]
            assert len(at_step) == LAYERS
            np.testing.assert_allclose(at_step["angle_1"], (share - start) * math.pi / 2, atol=1e-6)
            np.testing.assert_allclose(at_step["rms_angle"], at_step["angle_1"] / math.sqrt(RANK), atol=1e-6)
    assert set(planted.drift.query("step == 0")["since"]) == {"first"}
    unmoved = planted.drift.query("role == 'q'")
    assert unmoved["rms_angle"].max() < 1e-9
    assert direction(0, 0.2) @ direction(0, 0.6) == pytest.approx(math.cos(0.4 * math.pi / 2))


def test_the_update_of_each_step_is_that_of_the_weight(planted):
    moved = planted.updates[planted.updates["rank"] > 0]
    assert set(moved["role"]) == {"up"}
    assert moved.groupby("step").size().to_dict() == dict.fromkeys(STEPS[1:], LAYERS)
    for before, after in pairwise(range(len(STEPS))):
        rows = moved[moved["step"] == STEPS[after]]
        assert set(rows["since_step"]) == {STEPS[before]}
        first, second = (checkpoint(SHARES[at])["model.layers.1.mlp.up_proj.weight"] for at in (before, after))
        row, values = rows[rows["name"] == "layers.1.up"].iloc[0], torch.linalg.svdvals(second - first)
        assert row["relative_norm"] == pytest.approx(float((second - first).norm() / first.norm()))
        assert row["rank"] == int((values > 1e-9 * values[0]).sum()) == 2  # it turns in a plane
        assert row["stable_rank"] == pytest.approx(float(values.square().sum() / values[0] ** 2))


def test_events_are_turns_of_a_determined_first_direction_by_more_than_half_a_right_angle():
    tied = [checkpoint(0.0), checkpoint(0.6)]  # by 54 degrees
    for tensors in tied:
        name = "model.layers.1.mlp.up_proj.weight"
        left, values, right = torch.linalg.svd(tensors[name], full_matrices=False)
        values[1] = values[0]
        tensors[name] = (left * values) @ right
    found = trace([*tied, checkpoint(0.6)], steps=(3, 5, 8), rank=3, roles=["up"], measure="continuity")
    events = found.events[found.events["step"] == 5]
    assert events[["name", "side"]].to_numpy().tolist() == [["layers.0.up", "read"], ["layers.2.up", "read"]]
    assert events["first_direction_degrees"].tolist() == pytest.approx([54, 54], abs=1e-3)
    assert events["subspace_degrees"].tolist() == pytest.approx([54 / 3**0.5] * 2, abs=1e-3)
    assert set(events["since_step"]) == {3}


def test_every_table_says_where_its_rows_are_from(planted):
    assert planted.pairs.empty  # those that a monitor is asked for
    for name in set(TABLES) - {"pairs", "skipped"}:
        table = getattr(planted, name)
        assert table.columns[:2].tolist() == ["step", "checkpoint"]
        assert table["step"].is_monotonic_increasing
        assert table["step"].unique().tolist() == list(STEPS[1:] if name == "updates" else STEPS)


def test_the_numbers_of_a_step_are_those_of_its_analysis(planted):
    analysis = analyze(load(checkpoint(SHARES[2])), rank=RANK, measure=MEASURE)
    for name in ("summary", "continuity"):
        rows = getattr(planted, name).query(f"step == {STEPS[2]}").drop(columns=["step", "checkpoint"])
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), getattr(analysis, name))
    weights = planted.weights.query(f"step == {STEPS[2]}").reset_index(drop=True)
    for column in ("frobenius_norm", "effective_rank", "stable_rank"):
        pd.testing.assert_series_equal(weights[column], analysis.weights[column])
    mean = analysis.interfaces.query("kind == 'up-down' and not gauge_fixed")["rho"].mean()
    assert planted.interfaces.query(f"step == {STEPS[2]} and kind == 'up-down' and not gauge_fixed")[
        "rho"
    ].item() == pytest.approx(mean)


def test_milestones_are_the_ends_and_the_step_by_which_half_was_made(planted):
    rows = planted.milestones.set_index(["role", "side", "quantity"])
    up = rows.loc["up", "read", "abs_cos_1"]
    assert (up["first"], up["last"]) == pytest.approx((0, 1), abs=1e-6)
    assert up["half_step"] == 200  # sin(54°)² = .65, after sin(18°)² = .10
    assert rows.loc["up", "read", "drift"]["half_step"] == 200
    pairs = planted.continuity.query("role == 'up' and side == 'read' and step == 0")
    assert up["noise"] == pytest.approx(pairs["abs_cos_1_null_sd"].iloc[0] * math.sqrt(2 / (LAYERS - 1)))
    assert pd.isna(rows.loc["q", "read", "abs_cos_1"]["half_step"])


def test_a_course_that_comes_back_is_half_made_only_where_it_stays():
    back = trace([checkpoint(share) for share in (0.0, 1.0, 0.1, 0.8)], rank=3, roles=["up"])
    assert back.milestones.query("quantity == 'abs_cos_1'")["half_step"].tolist() == [3]


def test_save_and_load_keep_everything_and_replace_nothing_else(planted, tmp_path):
    planted.save(tmp_path / "out")
    back = Trace.load(tmp_path / "out")
    for name in (*TABLES, "milestones", "role_drift"):
        pd.testing.assert_frame_equal(getattr(back, name), getattr(planted, name))
    assert back.provenance == planted.provenance
    with pytest.raises(FileExistsError, match="overwrite"):
        planted.save(tmp_path / "out")
    (tmp_path / "out" / "thesis.tex").write_text("years")
    with pytest.raises(FileExistsError, match=r"found also 'thesis\.tex'"):
        planted.save(tmp_path / "out", overwrite=True)
    with pytest.raises(FileNotFoundError, match=r"expected a trace of flaggeo, found none of .*trace\.json"):
        Trace.load(tmp_path)
    file = tmp_path / "out" / "trace.json"
    file.write_text(file.read_text().replace('"schema_version": 5', '"schema_version": 9'))
    with pytest.raises(ValueError, match="expected schema version 5, found 9, which a later flaggeo wrote"):
        Trace.load(tmp_path / "out")


def test_checkpoints_that_do_not_fit_are_named_before_anything_is_measured():
    told = []
    with pytest.raises(MismatchError, match=r"weight 'layers\.3\.q': expected the shape 40x24 .* found no such weight"):
        trace([tiny_llama(layers=4), tiny_llama(layers=4), tiny_llama()], progress=lambda *step: told.append(step))
    with pytest.raises(MismatchError, match="got 9"):
        trace([tiny_llama()] * 2, layers=[9])
    assert told == []


def test_another_vocabulary_is_left_out_of_the_drift_alone():
    longer = tiny_llama() | {"model.embed_tokens.weight": tiny_llama()["model.embed_tokens.weight"][:-1]}
    found = trace([tiny_llama(), longer], rank=2)
    assert found.skipped["name"].tolist() == ["embed"]
    assert "embed" in set(found.weights["name"])
    assert "embed" not in set(found.drift["name"])


def test_saved_analyses_settle_the_settings_and_need_no_checkpoint(tmp_path):
    for step in (1, 2):
        network = load(tiny_llama(seed=step), config=CONFIG)
        analyze(network, rank=3, roles=["q", "o"]).save(tmp_path / f"step-{step}")
    found = trace([tmp_path / "step-1", tmp_path / "step-2"])
    assert found.settings.rank == 3
    assert found.updates.empty  # there are no matrices
    assert set(found.weights["role"]) == {"q", "o"}
    with pytest.raises(MismatchError, match="expected an analysis with rank 4, found 3"):
        trace([tmp_path / "step-1", tmp_path / "step-2"], rank=4)


def test_adapters_of_the_first_are_checkpoints_too(tmp_path):
    base = save_folder(tmp_path / "base", tiny_llama())
    factors = factors_of(tiny_llama(), ("model.layers.1.self_attn.q_proj",))
    adapters = [save_adapter(tmp_path / f"checkpoint-{step}", factors) for step in (10, 20)]
    found = trace([base, *adapters], rank=2, roles=["q"])
    assert found.checkpoints["step"].tolist() == [0, 10, 20]
    moved = found.drift[found.drift["rms_angle"] > 1e-3]
    assert set(moved["name"]) == {"layers.1.q"}
    assert set(moved.query("since == 'previous'")["step"]) == {10}


def test_draws_and_heads_are_passed_on_and_progress_counts_all_checkpoints():
    told = []
    networks = [load(tiny_llama(seed=seed), config=CONFIG) for seed in (0, 1)]
    found = trace(networks, rank=2, roles=["q"], measure="all", draws=2, progress=lambda *step: told.append(step))
    assert found.summary["abs_cos_1_norm_matched_mean"].notna().any()
    assert found.drift["head"].notna().any()
    assert found.role_drift["rms_angle"].notna().all()
    total = told[0][2]
    assert [done for _, done, _ in told] == list(range(total))
    assert {name.split(":")[0] for name, *_ in told} == {"checkpoint 0", "checkpoint 1"}


def test_a_zero_weight_is_undefined_not_unmoved():
    silent = tiny_llama()
    silent["model.layers.1.self_attn.q_proj.weight"] *= 0
    found = trace([silent, tiny_llama()], rank=2, roles=["q"])
    assert found.drift.query("name == 'layers.1.q'")["rms_angle"].isna().all()
    assert found.role_drift.query("side == 'read'")["rms_angle"].notna().all()


def test_folding_is_passed_on_and_never_mixed():
    networks = [load(with_gains(tiny_llama(), seed=seed), config=CONFIG) for seed in (0, 1)]
    folded = analyze(networks[0], rank=2, roles=["q"], fold_norms=True)
    found = trace([folded, networks[0], networks[1]])
    assert found.settings.fold_norms is True
    moved = found.drift.query("side == 'read' and since == 'first'").groupby("step")["rms_angle"].max()
    assert moved[1] < 1e-6  # the network itself
    assert moved[2] > 0.1  # other gains
    with pytest.raises(MismatchError, match="expected an analysis with fold_norms True, found False"):
        trace([folded, analyze(networks[1], rank=2, roles=["q"])])


def test_the_noise_of_a_milestone_counts_the_pairs_that_have_a_value():
    silent = tiny_llama(layers=4)
    silent["model.layers.1.self_attn.q_proj.weight"] *= 0
    found = trace([silent, silent], rank=2, roles=["q"])
    row = found.milestones.query("quantity == 'abs_cos_1' and side == 'read'").iloc[0]
    assert row["noise"] == pytest.approx(2**0.5 * abs_cosine_moments(24)[1])
