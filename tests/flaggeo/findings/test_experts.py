"""Findings on mixtures of experts: planted continuity, explained by what it should be, and none of random experts."""

import pytest
import torch

from flaggeo import analyze, load
from flaggeo.findings import findings
from flaggeo.findings.experts import matched_experts, stacked_continuity
from tests.builders import random_frame
from tests.mixtures import CONFIG, EXPERT_SHAPES, EXPERTS, WIDTH, continued, expert_tensor, facing, tiny_mixtral

LAYERS = 5
KINDS = ("stacked_continuity", "matched_experts")
ROLES = {"expert_gate", "expert_up", "expert_down"}


def analysis_of(tensors, *, rank=4, layers=LAYERS, **options):
    options = {"measure": ["continuity", "pairs"]} | options
    return analyze(load(tensors, config=CONFIG | {"num_hidden_layers": layers}), rank=rank, **options)


def verdicts(analysis, kind):
    """Verdict by role."""
    records = [record for record in findings(analysis) if record.kind == kind]
    return {row["role"]: record.verdict for record in records for row in record.numbers["roles"]}


def shared_subspace(frame):
    return facing(lambda *_: frame, layers=LAYERS)


def test_random_experts_keep_nothing():
    analysis = analysis_of(tiny_mixtral(layers=LAYERS))
    for kind in KINDS:
        assert set(verdicts(analysis, kind).values()) <= {"absent"}
        assert set(verdicts(analysis, kind)) == ROLES
    assert not analysis.graph.number_of_edges()


def nothing_is_found(seed, *, layers):
    analysis = analysis_of(tiny_mixtral(layers=layers, seed=seed), layers=layers)
    records = [record for record in findings(analysis) if record.kind in KINDS]
    significant = [row["significant"] for record in records for row in record.numbers["roles"]]
    return (
        {record.verdict for record in records} == {"absent"}
        and sum(significant) == 0
        and not analysis.graph.number_of_edges()
    )


def test_random_mixtures_give_no_finding_and_no_edge():
    assert all(nothing_is_found(seed, layers=3) for seed in range(1, 5))


@pytest.mark.slow
def test_random_mixtures_give_a_finding_or_an_edge_in_1_percent_at_most():
    """Of 100; 4 is three standard errors above."""
    assert sum(not nothing_is_found(seed, layers=4) for seed in range(100, 200)) <= 4


@pytest.fixture(scope="module")
def kept():
    return analysis_of(continued(layers=LAYERS), draws=2)


def test_experts_that_continue_in_another_order_are_kept(kept):
    assert verdicts(kept, "matched_experts") == dict.fromkeys(ROLES, "present")
    [reads, writes] = matched_experts(kept.experts)
    assert {row["role"] for row in reads.numbers["roles"]} == {"expert_gate", "expert_up"}
    assert (reads.place, [row["role"] for row in writes.numbers["roles"]]) == ("experts", ["expert_down"])
    for row in reads.numbers["roles"]:
        assert row["overlap"] > 0.95 > 0.5 > row["any_two"]
        assert max(row["unrelated"], row["sign_flip"], row["mean_matched"]) < 0.25
        assert row["significant"] == row["layer_pairs"] == LAYERS - 1


def test_their_stack_continues_too_and_is_no_finding_of_the_other_weights(kept):
    assert verdicts(kept, "stacked_continuity") == dict.fromkeys(ROLES, "present")
    reads, writes = stacked_continuity(kept.summary)
    assert (reads.place, writes.numbers["roles"][0]["side"]) == ("continuity", "write")
    stacked = kept.summary.set_index("role").loc["expert_up"]
    [up] = [row for row in reads.numbers["roles"] if row["role"] == "expert_up"]
    assert up["cosine"] == stacked["abs_cos_1"] > 0.9
    assert up["sign_flip"] == stacked["abs_cos_1_sign_flip_mean"] < 0.4
    assert not set(verdicts(kept, "continuity")) & ROLES


def test_the_nulls_of_a_stack_are_closed_and_nothing_is_drawn_of_it(kept):
    of_stack = kept.continuity[(kept.continuity["role"] == "expert_up") & kept.continuity["shared_space"]]
    row = kept.summary.set_index("role").loc["expert_up"]
    assert row["abs_cos_1_sign_flip_mean"] == pytest.approx(of_stack["abs_cos_1_sign_flip_mean"].mean(), rel=1e-6)
    largest = max(row[f"abs_cos_1_{null}_mean"] for null in ("null", "sign_flip", "mean_matched", "norm_matched"))
    assert row["abs_cos_1_excess"] == pytest.approx((row["abs_cos_1"] - largest) / (1 - largest))
    draws = kept.continuity_nulls.groupby("role")["draws"].max()
    assert set(draws.index) == {"q", "k", "v", "o", "router"} | ROLES
    assert not draws[list(ROLES)].any()
    assert draws["q"] == 2


def test_directions_that_all_experts_share_are_not_taken_for_partners():
    analysis = analysis_of(shared_subspace(random_frame(WIDTH, 4, seed=5)))
    assert verdicts(analysis, "matched_experts") == dict.fromkeys(ROLES, "explained_by_common_directions")
    assert verdicts(analysis, "stacked_continuity") == dict.fromkeys(ROLES, "present")


def test_an_outlier_channel_is_not_taken_for_continuity():
    analysis = analysis_of(shared_subspace(torch.eye(WIDTH)[:, :1]), rank=1)
    for kind in KINDS:
        assert verdicts(analysis, kind) == dict.fromkeys(ROLES, "explained_by_outlier_channels")


def test_a_common_mean_is_not_taken_for_continuity():
    tensors = tiny_mixtral(layers=LAYERS)
    for layer in range(LAYERS):
        for expert in range(EXPERTS):
            for name in EXPERT_SHAPES:
                tensors[expert_tensor(layer, expert, name)] += 2.0
    analysis = analysis_of(tensors)
    for kind in KINDS:
        assert verdicts(analysis, kind) == dict.fromkeys(ROLES, "explained_by_common_mean")


def test_the_error_of_the_closed_null_leaves_a_doubt():
    """What neither random signs nor a mean explain, and norm-matched stacks nearly."""
    summary = analysis_of(tiny_mixtral(layers=2), layers=2).summary
    row = {"abs_cos_1": 0.7, "abs_cos_1_null_mean": 0.1, "abs_cos_1_sign_flip_mean": 0.5, "significant_pairs": 1}
    rows = summary.assign(**row, abs_cos_1_mean_matched_mean=0.1)
    for null, verdict in ((0.6, "present"), (0.64, "undetermined"), (0.68, "explained_by_outlier_channels")):
        found = [record.verdict for record in stacked_continuity(rows.assign(abs_cos_1_norm_matched_mean=null))]
        assert found == [verdict, verdict]
    assert not stacked_continuity(rows.assign(abs_cos_1_norm_matched_mean=0.6, significant_pairs=0))


def test_networks_without_experts_have_no_such_finding():
    analysis = analysis_of(tiny_mixtral(layers=2), layers=2, roles=["q", "o", "router"])
    assert not analysis.summary["stacked"].any()
    assert not [record for record in findings(analysis) if record.kind in KINDS]


def test_sentences_name_the_roles_and_the_numbers(kept):
    for record in (*stacked_continuity(kept.summary), *matched_experts(kept.experts)):
        for row in record.numbers["roles"]:
            assert row["role"] in record.sentence
            assert f"{row['unrelated']:.2f}" in record.sentence
