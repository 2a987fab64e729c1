from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

from flaggeo import Analysis, CheckpointError, analyze, compare, load, trace
from flaggeo.alignment import SEEDED_NULLS
from tests.builders import CONFIG, related_llama, save_folder, tiny_llama
from tests.mixtures import CONFIG as MIXTURE
from tests.mixtures import EXPERT_SHAPES, EXPERTS, LAYERS, expert_tensor, tiny_mixtral
from tests.published import MINILM, MINILM_NULLS, headline, published_nulls_hold


@pytest.fixture(scope="module")
def tiny():
    return analyze(load(tiny_llama(), config=CONFIG), rank=4)


@pytest.fixture(scope="module")
def tiny_with_nulls():
    return analyze(load(tiny_llama(), config=CONFIG), rank=4, draws=3)


def test_without_draws_the_nulls_are_in_closed_form_and_nothing_is_equalised(tiny, tiny_with_nulls):
    nulls = tiny.continuity_nulls
    assert (len(nulls), set(nulls["null"]), set(nulls["draws"])) == (7 * 2 * 2 * 2, set(SEEDED_NULLS), {0})
    pd.testing.assert_series_equal(nulls["mean"], nulls["closed_form"], check_names=False)
    columns = [f"abs_cos_1_{part}" for part in ("norm_matched_mean", "sign_flip_mean", "equalised", "excess")]
    assert tiny.summary[columns].notna().all().tolist() == [True, True, False, True]
    assert tiny_with_nulls.summary[columns].notna().all(axis=None)
    assert tiny_with_nulls.settings.draws == 3
    pd.testing.assert_frame_equal(tiny_with_nulls.summary.drop(columns=columns), tiny.summary.drop(columns=columns))


def test_what_is_drawn_stands_beside_its_closed_form(tiny, tiny_with_nulls):
    keys = ["role", "side", "null", "measure"]
    drawn = tiny_with_nulls.continuity_nulls.set_index(keys)
    closed = tiny.continuity_nulls.set_index(keys)["mean"]
    pd.testing.assert_series_equal(drawn.loc[closed.index, "closed_form"], closed, check_names=False, check_exact=True)
    assert set(drawn.loc[closed.index, "draws"]) == {3}
    assert drawn.drop(closed.index)["closed_form"].isna().all()


def test_the_summary_holds_the_nulls_and_the_excess_over_the_largest(tiny_with_nulls):
    nulls = tiny_with_nulls.continuity_nulls.set_index(["role", "side", "null", "measure"])["mean"]
    assert len(tiny_with_nulls.continuity_nulls) == 7 * 2 * 3 * 2
    for row in tiny_with_nulls.summary.itertuples():
        for null, part in (
            ("norm_matched", "norm_matched_mean"),
            ("sign_flip", "sign_flip_mean"),
            ("equalised", "equalised"),
        ):
            assert getattr(row, f"abs_cos_1_{part}") == nulls[row.role, row.side, null, "abs_cos_1"]
        nulls_of_row = (getattr(row, f"abs_cos_1_{null}_mean") for null in ("null", "mean_matched", *SEEDED_NULLS))
        largest = max(nulls_of_row)
        assert row.abs_cos_1_excess == pytest.approx((row.abs_cos_1 - largest) / (1 - largest))


def test_the_nulls_of_a_role_do_not_depend_on_what_else_is_measured(tiny_with_nulls):
    alone = analyze(load(tiny_llama(), config=CONFIG), rank=4, draws=3, roles=["down"], measure=["continuity", "heads"])
    together = tiny_with_nulls.continuity_nulls
    pd.testing.assert_frame_equal(
        alone.continuity_nulls, together[together["role"] == "down"].reset_index(drop=True), check_exact=True
    )


def test_each_tensor_is_read_once_heads_included(monkeypatch):
    network = load(tiny_llama(), config=CONFIG)
    read = []
    original = network.checkpoint.read
    monkeypatch.setattr(
        network.checkpoint, "read", lambda name, **options: read.append(name) or original(name, **options)
    )
    analyze(network, rank=2, measure="all", draws=2)
    gains = {gain.tensor for weight in network.weights for gain in weight.folding.gains}
    assert sorted(name for name in read if name not in gains) == sorted({weight.tensor for weight in network.weights})


def test_tables_say_what_was_asked_for(tiny):
    assert len(tiny.weights) == 3 * 7 + 2
    assert tiny.weights["head"].isna().all()
    assert set(tiny.spaces["name"]) >= {"stream", "vocabulary", "layers.2.hidden"}
    assert tiny.spaces.set_index("name").loc["layers.0.values", "overlap_basis_independent"] == False  # noqa: E712
    assert set(tiny.skipped["tensor"]) == {
        "model.norm.weight",
        *(f"model.layers.{i}.input_layernorm.weight" for i in range(3)),
    }
    assert tiny.bases["layers.1.down.write"].shape == (24, 4)
    assert tiny.bases["layers.1.down.singular_values"].shape == (5,)  # those of the frames, and the next
    assert tiny.weights["effective_rank"].isna().all()


def test_heads_join_as_weights_of_their_own():
    analysis = analyze(load(tiny_llama(), config=CONFIG), rank=3, measure=["continuity", "pairs", "heads"])
    heads = analysis.weights[analysis.weights["head"].notna()]
    assert len(heads) == 3 * (4 + 2 + 2 + 4)
    in_head = analysis.pairs[analysis.pairs["space"] == "layers.1.heads.0.values"]
    flows = in_head[in_head["kind"] == "write-read"]
    assert set(zip(flows["source"], flows["target"], strict=True)) == {
        ("layers.1.v.heads.0.write", f"layers.1.o.heads.{head}.read") for head in (0, 1)
    }
    whole = analyze(load(tiny_llama(), config=CONFIG), rank=3)
    pd.testing.assert_frame_equal(analysis.continuity, whole.continuity)


def test_roles_and_layers_restrict_the_work():
    network = load(tiny_llama(), config=CONFIG)
    analysis = analyze(network, rank=2, roles=["q", "down"], layers=[1, 2])
    assert set(analysis.weights["name"]) == {"layers.1.q", "layers.2.q", "layers.1.down", "layers.2.down"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank: expected a whole number of at least 1; got 0"),
        ({"draws": -1}, "draws: expected a whole number of at least 0; got -1"),
        ({"roles": ["rooter"]}, "roles: expected some of embed, q, .* got rooter"),
        ({"layers": [0, 9]}, "expected layers from 0 to 2; got 9"),
        ({"roles": "rooter"}, "got rooter"),
        ({"roles": []}, "roles: expected some of embed, q, .* got none"),
        ({"scratch": "somewhere"}, "only where the checkpoint is on disk"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        analyze(load(tiny_llama(), config=CONFIG), **options)


def test_what_load_takes_is_loaded(tmp_path):
    folder = save_folder(tmp_path / "model", tiny_llama())
    expected = analyze(load(folder), rank=3)
    for source in (folder, str(folder)):
        pd.testing.assert_frame_equal(analyze(source, rank=3).continuity, expected.continuity)
    with pytest.raises(CheckpointError, match="nowhere: expected"):
        analyze(tmp_path / "nowhere")


def test_an_interrupted_run_resumes_and_gives_the_same_result(tmp_path, monkeypatch):
    folder = save_folder(tmp_path / "model", tiny_llama())
    whole = analyze(load(folder), rank=3)

    def interrupt(_, done, total):
        if done == total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze(load(folder), rank=3, progress=interrupt, scratch=tmp_path / "scratch")
    network, read = load(folder), []
    original = network.checkpoint.read
    monkeypatch.setattr(
        network.checkpoint, "read", lambda name, **options: read.append(name) or original(name, **options)
    )
    resumed = analyze(network, rank=3, scratch=tmp_path / "scratch")
    pd.testing.assert_frame_equal(resumed.pairs, whole.pairs, check_exact=True)
    assert 0 < len(read) < len(whole.weights)


def test_a_run_interrupted_in_its_draws_resumes_with_the_same_numbers(tmp_path):
    folder = save_folder(tmp_path / "model", tiny_llama())
    whole, seen = analyze(load(folder), rank=3, draws=2), []

    def interrupt(name, done, total):
        seen.append((name, done, total))
        if name == "baselines: layers.1.o":  # after the tensors, and after the draws of q, k and v
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze(load(folder), rank=3, draws=2, progress=interrupt, scratch=tmp_path / "scratch")
    assert [done for _, done, _ in seen] == list(range(len(seen)))
    assert {total for *_, total in seen} == {23 + 7 * 3 + 2}
    kept = list((tmp_path / "scratch").rglob("*.kept"))
    assert len(kept) == 1 + 3 + 1 + 3  # embed, layers and unembed; nulls of q, k and v
    seen.clear()
    resumed = analyze(
        load(folder), rank=3, draws=2, progress=lambda *step: seen.append(step), scratch=tmp_path / "scratch"
    )
    assert [name for name, *_ in seen[-2:]] == ["baselines", "pairs"]
    assert len(seen) == 23 + 7 * 3 + 2
    pd.testing.assert_frame_equal(resumed.continuity_nulls, whole.continuity_nulls, check_exact=True)


MIXED = ("continuity", "pairs", "interfaces", "spectra")


@pytest.fixture(scope="module")
def mixture():
    return analyze(load(tiny_mixtral(), config=MIXTURE), rank=4, measure=MIXED)


def test_the_stack_stands_for_the_experts_in_pairs_and_graph(mixture):
    ends = {*mixture.pairs["source"], *mixture.pairs["target"], *mixture.graph.nodes}
    assert not [name for name in ends if ".experts." in name]
    faced = {name for name in ends if "expert_" in name}
    assert faced == {
        f"layers.{layer}.{role}"
        for layer in range(LAYERS)
        for role in ("expert_gate.read", "expert_up.read", "expert_down.write")
    }
    assert faced < set(mixture.graph.nodes)
    assert {"layers.0.router.read", "layers.0.router.write"} < set(mixture.graph.nodes)


def test_single_experts_are_weights_with_interfaces(mixture):
    weights = mixture.weights.set_index("name")
    assert weights["expert"].notna().sum() == 3 * LAYERS * EXPERTS
    assert weights["stacked"].dropna().to_dict() == {
        f"layers.{layer}.expert_{end}": EXPERTS for layer in range(LAYERS) for end in ("gate", "up", "down")
    }
    assert weights.loc["layers.1.expert_up", "frobenius_norm"] ** 2 == pytest.approx(
        sum(weights.loc[f"layers.1.expert_up.experts.{e}", "frobenius_norm"] ** 2 for e in range(EXPERTS))
    )
    assert mixture.bases["layers.1.expert_up.experts.2.write"].shape == (12, 4)
    assert mixture.bases["layers.1.expert_up.read"].shape == (32, 4)
    assert "layers.1.expert_up.write" not in mixture.bases
    kinds = mixture.interfaces["kind"].value_counts()
    assert kinds["expert_up-expert_down"] == 2 * LAYERS * EXPERTS  # as stored, and after balancing
    assert kinds["expert_gate-expert_down"] == LAYERS * EXPERTS


def test_experts_are_nowhere_compared_by_their_numbers(mixture):
    """Neither at the inner end of a stack nor where a router writes."""
    for table in (mixture.continuity, mixture.continuity_by_rank, mixture.continuity_by_lag):
        sides = set(table[["role", "side"]].itertuples(index=False, name=None))
        assert {("expert_up", "read"), ("expert_down", "write"), ("router", "read"), ("q", "write")} <= sides
        assert not sides & {("expert_up", "write"), ("expert_down", "read"), ("router", "write")}
    stacks = mixture.continuity[mixture.continuity["role"].str.startswith("expert_")]
    assert stacks["shared_space"].all()
    assert stacks["gram_cosine"].notna().all()
    assert stacks["signed_rank_one"].isna().all()


def test_another_order_of_a_layers_experts_changes_nothing_but_labels(mixture):
    tensors, turned = tiny_mixtral(), tiny_mixtral()
    gate = "model.layers.1.block_sparse_moe.gate.weight"
    turned[gate] = tensors[gate].flip(0)
    for expert in range(EXPERTS):
        for name in EXPERT_SHAPES:
            turned[expert_tensor(1, expert, name)] = tensors[expert_tensor(1, EXPERTS - 1 - expert, name)]
    again = analyze(load(turned, config=MIXTURE), rank=4, measure=MIXED)
    for name in ("continuity", "pairs", "continuity_by_lag", "trajectory_variance"):
        # The rows of the router are in another order, and so is what it writes.
        before, after = (getattr(analysis, name) for analysis in (mixture, again))
        pd.testing.assert_frame_equal(before, after, rtol=1e-4, atol=1e-6)
    numbers = ["overlap", "largest_overlap", "matched_overlap", "matched_overlap_sign_flip_mean", "matched_gain_z"]
    pd.testing.assert_frame_equal(mixture.experts[numbers], again.experts[numbers], rtol=1e-4, atol=1e-6)


def test_a_mixture_on_disk_is_analysed_saved_loaded_and_compared(tmp_path):
    folder = save_folder(tmp_path / "model", tiny_mixtral(), config=MIXTURE)
    options = {"rank": 4, "draws": 2, "measure": ["continuity", "pairs", "stability"]}
    analysis = analyze(load(folder), **options)
    analysis.save(tmp_path / "saved")
    loaded = Analysis.load(tmp_path / "saved")
    pd.testing.assert_frame_equal(loaded.experts, analysis.experts)
    assert [str(finding) for finding in loaded.findings] == [str(finding) for finding in analysis.findings]
    assert not analysis.stability["source"].str.contains(".experts.", regex=False).any()
    same = compare(tmp_path / "saved", folder)
    assert same.weights["rms_angle"].max() < 1e-3
    assert set(same.weights["name"]) == set(analysis.weights.loc[analysis.weights["stacked"].isna(), "name"])
    run = trace([loaded, analysis])
    assert set(run.weights["name"]) == set(same.weights["name"])


def damaged(tensors, name):
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    tensors[name].view(-1)[3] = float("nan")
    return tensors


def test_a_tensor_that_is_not_finite_is_left_out_and_named(tmp_path):
    name = "model.layers.1.self_attn.o_proj.weight"
    whole = analyze(load(tiny_llama(), config=CONFIG), measure="all")
    analysis = analyze(load(save_folder(tmp_path, damaged(tiny_llama(), name))), measure="all")
    [failure] = analysis.provenance["failed"]
    assert "model.safetensors" in failure
    assert name in failure
    [row] = analysis.skipped[analysis.skipped["tensor"] == name].itertuples()
    assert row.reason == failure
    lost = {"layers.1.o", *(f"layers.1.o.heads.{head}" for head in range(4))}
    assert set(whole.weights["name"]) - set(analysis.weights["name"]) == lost
    before, after = whole.provenance["coverage"], analysis.provenance["coverage"]
    assert before["analysed"]["attention"] - after["analysed"]["attention"] == tiny_llama()[name].numel()
    # What does not need it is the same.
    gone = {f"{one}.{side}" for one in lost for side in ("read", "write")}
    kept = whole.pairs[~whole.pairs[["source", "target"]].isin(gone).any(axis=1)]
    both = kept.merge(analysis.pairs, on=["source", "target"], suffixes=("", "_left"))
    assert len(both) == len(kept) == len(analysis.pairs)
    np.testing.assert_allclose(both["overlap"], both["overlap_left"], rtol=1e-12)
    met = [set(one.interfaces["name"]) for one in (whole, analysis)]
    assert {interface.split(".")[-1] for interface in met[0] - met[1]} == {"v-o"}
    assert met[1] < met[0]


def test_a_stack_without_one_of_its_experts_is_left_out():
    name = expert_tensor(1, 2, "w1")
    analysis = analyze(load(damaged(tiny_mixtral(), name), config=MIXTURE))
    stacks = analysis.weights[analysis.weights["stacked"].notna()]
    stacked = set(zip(stacks["layer"], stacks["role"], strict=True))
    assert (1, "expert_gate") not in stacked
    assert {(0, "expert_gate"), (1, "expert_up"), (1, "expert_down")} <= stacked
    assert name not in set(analysis.weights["tensor"])


def test_nothing_but_tensors_that_are_not_finite_is_an_error():
    tensors = {name: torch.full_like(tensor, torch.nan) for name, tensor in tiny_llama().items()}
    with pytest.raises(CheckpointError, match="expected finite numbers"):
        analyze(load(tensors, config=CONFIG))


def test_what_reads_through_one_latent_is_no_pair():
    """A random network of multi-head latent attention: its heads lie in the latent by construction."""
    pytest.importorskip("transformers")
    from flaggeo.network.families.derivation.tiny import tiny_config, tiny_model

    analysis = analyze(load(tiny_model(tiny_config("deepseek_v3"))), measure=("continuity", "pairs", "heads"))
    for table in (analysis.pairs, analysis.heads):
        ends = table[["source", "target"]].apply(
            lambda end: end.str.extract(r"^(layers\.\d+)\.([qk]|v)\b.*\.read$").agg(tuple, axis=1)
        )
        inside = {frozenset(pair) for pair in ends.itertuples(index=False) if pair[0][0] == pair[1][0]}
        # Queries have a latent of their own, and so meet keys and values.
        assert not any({role for _, role in pair} in ({"q"}, {"k"}, {"v"}, {"k", "v"}) for pair in inside)
    assert analysis.head_clusters.empty
    assert {"QQ", "KK", "VV", "OO"} <= set(analysis.heads["kind"])


TABLES_OF = {
    "continuity": {
        "continuity",
        "continuity_by_rank",
        "continuity_by_lag",
        "trajectories",
        "trajectory_variance",
        "continuity_nulls",
        "readings",
    },
    "pairs": {"pairs", "pair_nulls"},
    "interfaces": {"interfaces", "interfaces_by_rank"},
}


@pytest.fixture(scope="module")
def everything():
    network = load(related_llama(), config=CONFIG)
    return network, analyze(network, rank=2, draws=2, measure=(*TABLES_OF, "spectra"))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_only_what_is_asked_for_is_measured_and_its_numbers_are_the_same(everything, count):
    network, whole = everything
    for measure in combinations(TABLES_OF, count):
        analysis = analyze(network, rank=2, draws=2, measure=(*measure, "spectra"))
        left_out = set().union(*(tables for name, tables in TABLES_OF.items() if name not in measure))
        for name in Analysis.table_names():
            table, expected = getattr(analysis, name), getattr(whole, name)
            if name in left_out:
                assert table.empty
                assert table.columns.tolist() == expected.columns.tolist()
            else:
                pd.testing.assert_frame_equal(table, expected, check_exact=True)
        assert bool(analysis.graph.edges) == ("pairs" in measure)
        page = analysis.to_html()
        for section, measurement in (("continuity", "continuity"), ("graph", "pairs"), ("interfaces", "interfaces")):
            assert (f'<h2 id="{section}">' in page) == (measurement in measure)


@pytest.mark.parametrize("measure", TABLES_OF)
def test_comparisons_and_traces_of_one_measurement_have_pages_too(everything, measure):
    network, _ = everything
    for found in (compare(network, network, measure=measure), trace([network, network], measure=measure)):
        assert found.settings.measure == (measure,)
        assert "<h1>" in found.to_html()


def test_what_is_not_asked_for_costs_nothing(everything, monkeypatch):
    network, _ = everything

    def unwanted(*_, **__):
        raise AssertionError

    for name in ("engine.interface_rows", "engine.gram_cosines", "engine.norm_profile", "engine.projection_heads"):
        monkeypatch.setattr(f"flaggeo.{name}", unwanted)
    assert len(analyze(network, rank=2, measure="pairs").pairs)
    with pytest.raises(AssertionError):
        analyze(network, rank=2, measure="interfaces")


def test_minilm_has_the_published_numbers(minilm_folder):
    analysis = analyze(load(minilm_folder), draws=20)
    assert headline(analysis) == pytest.approx(MINILM, abs=0.005)
    published_nulls_hold(analysis, MINILM_NULLS)
    nulls = analysis.continuity_nulls[analysis.continuity_nulls["measure"] == "overlap"]
    overlaps = nulls.set_index(["role", "side", "null"])["mean"]
    # practice/checkpoints-and-engine, section 4: the 16-dimensional subspaces, 20 draws.
    flipped = {"q": 0.057, "k": 0.070, "v": 0.054, "o": 0.068, "up": 0.046, "down": 0.139}
    norms = {"q": 0.048, "k": 0.088, "v": 0.063, "o": 0.089, "up": 0.059, "down": 0.187}
    for null, published in (("sign_flip", flipped), ("norm_matched", norms)):
        for role, value in published.items():
            side = "write" if role in ("o", "down") else "read"
            assert overlaps[role, side, null] == pytest.approx(value, abs=0.005)
