from itertools import combinations

import gguf
import pandas as pd
import pytest
import torch

from flaggeo import Analysis, CheckpointError, analyze, compare, load, trace
from flaggeo.checkpoint import open_checkpoint
from tests.builders import CONFIG, related_llama, save_folder, tiny_llama

#: Mean |cos| of neighbouring first singular vectors, theory/continuity sections 10.1 and 10.2.
SMOLLM2 = {"q": 0.419, "k": 0.567, "gate": 0.670, "up": 0.392, "v": 0.078, "o": 0.393, "down": 0.764}
MINILM = {"q": 0.294, "k": 0.247, "v": 0.208, "up": 0.724, "o": 0.381, "down": 0.574}
#: Margin-matched |cos| (2 draws there, hence 0.03) and equalised |cos| (0.01), on both sides, from the same tables.
SMOLLM2_NULLS = {
    ("q", "read"): (0.075, 0.395),
    ("q", "write"): (0.030, 0.047),
    ("k", "read"): (0.033, 0.578),
    ("k", "write"): (0.102, 0.080),
    ("gate", "read"): (0.035, 0.651),
    ("gate", "write"): (0.018, 0.362),
    ("up", "read"): (0.032, 0.445),
    ("up", "write"): (0.017, 0.026),
    ("o", "read"): (0.035, 0.031),
    ("o", "write"): (0.467, 0.128),
    ("down", "read"): (0.018, 0.015),
    ("down", "write"): (0.755, 0.460),
    ("v", "read"): (0.034, 0.081),
    ("v", "write"): (0.059, 0.073),
}
MINILM_NULLS = {
    ("q", "read"): (0.052, 0.244),
    ("q", "write"): (0.056, 0.038),
    ("k", "read"): (0.188, 0.434),
    ("k", "write"): (0.044, 0.044),
    ("v", "read"): (0.055, 0.358),
    ("v", "write"): (0.037, 0.039),
    ("up", "read"): (0.067, 0.757),
    ("up", "write"): (0.017, 0.674),
    ("o", "read"): (0.042, 0.027),
    ("o", "write"): (0.080, 0.350),
    ("down", "read"): (0.021, 0.018),
    ("down", "write"): (0.559, 0.490),
}
NUMBERS = ["abs_cos_1", "abs_cos_2", "sigma2_weighted", "overlap", "energy"]


@pytest.fixture(scope="module")
def tiny():
    return analyze(load(tiny_llama(), config=CONFIG), rank=4)


@pytest.fixture(scope="module")
def tiny_with_nulls():
    return analyze(load(tiny_llama(), config=CONFIG), rank=4, draws=3)


@pytest.fixture(scope="module")
def smollm2(smollm2_file):
    return analyze(load(smollm2_file))


def headline(analysis):
    shared = analysis.summary[analysis.summary["shared_space"]]
    return dict(zip(shared["role"], shared["abs_cos_1"], strict=True))


def test_smollm2_has_the_published_continuity(smollm2):
    assert headline(smollm2) == pytest.approx(SMOLLM2, abs=0.005)
    assert smollm2.summary["abs_cos_1_null_mean"].iloc[0] == pytest.approx(0.0333, abs=5e-5)
    assert smollm2.provenance["layers"] == 30
    assert smollm2.weights["residual"].max() < 1e-12


def test_minilm_has_the_published_continuity(minilm_folder):
    assert headline(analyze(load(minilm_folder))) == pytest.approx(MINILM, abs=0.005)


def published_nulls_hold(analysis, published):
    rows = analysis.summary.set_index(["role", "side"])
    assert set(rows.index) == set(published)
    matched, equalised = (rows[f"abs_cos_1_{part}"].to_dict() for part in ("norm_matched_mean", "equalised"))
    assert matched == pytest.approx({key: pair[0] for key, pair in published.items()}, abs=0.03)
    assert equalised == pytest.approx({key: pair[1] for key, pair in published.items()}, abs=0.01)


def test_minilm_has_the_published_nulls(minilm_folder):
    analysis = analyze(load(minilm_folder), draws=20)
    published_nulls_hold(analysis, MINILM_NULLS)
    nulls = analysis.continuity_nulls[analysis.continuity_nulls["measure"] == "overlap"]
    overlaps = nulls.set_index(["role", "side", "null"])["mean"]
    # practice/checkpoints-and-engine, section 4: the 16-dimensional subspaces, 20 draws.
    signs = {"q": 0.057, "k": 0.070, "v": 0.054, "o": 0.068, "up": 0.046, "down": 0.139}
    margins = {"q": 0.048, "k": 0.088, "v": 0.063, "o": 0.089, "up": 0.059, "down": 0.187}
    for null, published in (("sign_flip", signs), ("norm_matched", margins)):
        for role, value in published.items():
            side = "write" if role in ("o", "down") else "read"
            assert overlaps[role, side, null] == pytest.approx(value, abs=0.005)


def test_smollm2_has_the_published_nulls(smollm2_file):
    analysis = analyze(load(smollm2_file), draws=4)
    published_nulls_hold(analysis, SMOLLM2_NULLS)
    excess = analysis.summary.set_index(["role", "side"])["abs_cos_1_excess"]
    assert excess[[("o", "write"), ("down", "write")]].max() < 0.1  # outlier channels
    assert excess[[(role, "read") for role in ("q", "k", "gate", "up")]].min() > 0.3


def test_without_draws_the_table_of_nulls_is_empty_and_its_columns_of_the_summary_undefined(tiny, tiny_with_nulls):
    assert tiny.continuity_nulls.empty
    assert tiny.continuity_nulls.dtypes["mean"] == tiny_with_nulls.continuity_nulls.dtypes["mean"]
    columns = [f"abs_cos_1_{part}" for part in ("norm_matched_mean", "sign_flip_mean", "equalised", "excess")]
    assert tiny.summary[columns].isna().all(axis=None)
    assert tiny_with_nulls.summary[columns].notna().all(axis=None)
    assert tiny_with_nulls.settings.draws == 3
    pd.testing.assert_frame_equal(tiny_with_nulls.summary.drop(columns=columns), tiny.summary.drop(columns=columns))


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
        largest = max(row.abs_cos_1_null_mean, row.abs_cos_1_norm_matched_mean, row.abs_cos_1_sign_flip_mean)
        assert row.abs_cos_1_excess == pytest.approx((row.abs_cos_1 - largest) / (1 - largest))


def test_the_nulls_of_a_role_do_not_depend_on_what_else_is_measured(tiny_with_nulls):
    alone = analyze(load(tiny_llama(), config=CONFIG), rank=4, draws=3, roles=["down"], heads=True)
    together = tiny_with_nulls.continuity_nulls
    pd.testing.assert_frame_equal(
        alone.continuity_nulls, together[together["role"] == "down"].reset_index(drop=True), check_exact=True
    )


def test_smollm2_gives_the_same_numbers_in_every_format(smollm2, smollm2_file, tmp_path):
    """GGUF against its de-quantised tensors in shards under Hugging Face names, and as a state dict.

    The rows of q and k stay as GGUF interleaves them: one permutation within every head, the same in all
    layers, is invisible to every number in the tables.
    """
    reader = gguf.GGUFReader(smollm2_file)
    parts = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"}
    parts |= {"attn_output": "self_attn.o_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    parts |= {f"ffn_{role}": f"mlp.{role}_proj" for role in ("gate", "up", "down")}
    tensors = {}
    for tensor in reader.tensors:
        numbers = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        pieces = tensor.name.split(".")
        if pieces[0] == "blk":
            tensors[f"model.layers.{pieces[1]}.{parts[pieces[2]]}.weight"] = numbers
        else:
            tensors[
                {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[
                    tensor.name
                ]
            ] = numbers
    config = CONFIG | {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    folder = save_folder(tmp_path, tensors, config=config, shards=4)
    for other in (analyze(load(folder)), analyze(load(tensors, config=config))):
        for table in ("continuity", "pairs"):
            ours, theirs = getattr(smollm2, table), getattr(other, table)
            pd.testing.assert_frame_equal(ours, theirs, atol=1e-5, rtol=0)
        assert other.provenance["headers_sha256"] != smollm2.provenance["headers_sha256"]


def test_each_tensor_is_read_once_heads_included(monkeypatch):
    network = load(tiny_llama(), config=CONFIG)
    read = []
    original = network.checkpoint.read
    monkeypatch.setattr(
        network.checkpoint, "read", lambda name, **options: read.append(name) or original(name, **options)
    )
    analyze(network, rank=2, heads=True, draws=2)
    assert sorted(read) == sorted({weight.tensor for weight in network.weights})


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
    assert tiny.bases["layers.1.down.singular_values"].shape == (24,)


def test_heads_join_as_weights_of_their_own():
    analysis = analyze(load(tiny_llama(), config=CONFIG), rank=3, heads=True)
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
        ({"roles": ["router"]}, "roles: expected some of embed, q, .* got router"),
        ({"layers": [0, 9]}, "expected layers from 0 to 2; got 9"),
        ({"roles": "router"}, "got router"),
        ({"roles": []}, "roles: expected some of embed, q, .* got none"),
        ({"scratch": "somewhere"}, "only where the checkpoint is on disk"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        analyze(load(tiny_llama(), config=CONFIG), **options)


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
        if name == "layers.1.o":  # after the tensors, and after the draws of q, k and v
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze(load(folder), rank=3, draws=2, progress=interrupt, scratch=tmp_path / "scratch")
    assert [done for _, done, _ in seen] == list(range(len(seen)))
    assert {total for *_, total in seen} == {23 + 7 * 3}
    kept = list((tmp_path / "scratch").rglob("*.safetensors"))
    assert len(kept) == 1 + 3 + 1 + 3  # embed, layers and unembed; nulls of q, k and v
    seen.clear()
    resumed = analyze(
        load(folder), rank=3, draws=2, progress=lambda *step: seen.append(step), scratch=tmp_path / "scratch"
    )
    assert len(seen) == 23 + 7 * 3
    pd.testing.assert_frame_equal(resumed.continuity_nulls, whole.continuity_nulls, check_exact=True)


def test_a_tensor_that_is_not_finite_is_named(tmp_path):
    tensors = tiny_llama()
    tensors["model.layers.1.self_attn.o_proj.weight"][3, 4] = float("nan")
    folder = save_folder(tmp_path, tensors)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: tensor 'model\.layers\.1\.self_attn\.o_proj\.weight'"
    ):
        analyze(load(folder))


def test_row_blocks_of_the_real_file_are_rows_of_the_whole(smollm2_file):
    checkpoint = open_checkpoint(smollm2_file)
    whole = checkpoint.read("blk.7.ffn_down.weight")
    assert torch.equal(checkpoint.read("blk.7.ffn_down.weight", rows=slice(100, 130)), whole[100:130])


TABLES_OF = {
    "continuity": {
        "continuity",
        "continuity_by_rank",
        "continuity_by_lag",
        "trajectories",
        "trajectory_variance",
        "continuity_nulls",
    },
    "pairs": {"pairs", "pair_nulls"},
    "interfaces": {"interfaces", "interfaces_by_rank"},
}


@pytest.fixture(scope="module")
def everything():
    network = load(related_llama(), config=CONFIG)
    return network, analyze(network, rank=2, draws=2, heads=True)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_only_what_is_asked_for_is_measured_and_its_numbers_are_the_same(everything, count):
    network, whole = everything
    for measure in combinations(TABLES_OF, count):
        analysis = analyze(network, rank=2, draws=2, heads=True, measure=measure)
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
