import json
import math

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from flaggeo import Analysis, ResultError, analyze, load
from manifolds import abs_cosine_moments, projection_overlap
from tests.builders import CONFIG, random_frame, tiny_llama


@pytest.fixture(scope="module")
def tiny():
    return analyze(load(tiny_llama(), config=CONFIG), rank=4)


def test_a_single_layer_and_no_pairs_still_give_every_table(tmp_path):
    network = load(tiny_llama(layers=1), config=CONFIG | {"num_hidden_layers": 1})
    analysis = analyze(network, roles=["down"], draws=2)
    assert analysis.summary.empty
    assert analysis.continuity_nulls.empty
    assert analysis.pairs.empty
    analysis.save(tmp_path / "out")
    assert Analysis.load(tmp_path / "out").pairs.columns.tolist() == analysis.pairs.columns.tolist()


@pytest.mark.parametrize("draws", [0, 3])
def test_save_and_load_keep_everything(draws, tmp_path):
    tiny = analyze(load(tiny_llama(), config=CONFIG), rank=4, draws=draws)
    tiny.save(tmp_path / "out")
    back = Analysis.load(tmp_path / "out")
    for table in ("weights", "spaces", "continuity", "continuity_nulls", "pairs", "skipped", "summary"):
        pd.testing.assert_frame_equal(getattr(back, table), getattr(tiny, table))
        if table != "summary":
            assert len(pd.read_csv(tmp_path / "out" / f"{table}.csv")) == len(getattr(tiny, table))
    assert back.provenance == json.loads(json.dumps(tiny.provenance))
    assert set(back.bases) == set(tiny.bases) == set(load_file(tmp_path / "out" / "bases.safetensors"))
    torch.testing.assert_close(back.bases["layers.0.q.read"], tiny.bases["layers.0.q.read"].float())
    assert set(nx.read_graphml(tmp_path / "out" / "graph.graphml").nodes) == set(tiny.graph.nodes)
    assert (tmp_path / "out" / "report.html").read_text() == tiny.to_html()
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["schema_version"] == 9
    assert len(result["summary"]) == len(tiny.summary)


def test_the_matrix_of_overlaps_has_those_of_the_pairs_and_of_all_others(tiny, tmp_path):
    stream = tiny.overlap_matrix("stream")
    assert stream.shape == (3 * 7 + 2, 3 * 7 + 2)  # with what the embedding writes and the unembedding reads
    np.testing.assert_allclose(stream, stream.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(stream), 1, rtol=1e-5)
    pairs = tiny.pairs[tiny.pairs["space"] == "stream"]
    found = [stream.loc[source, target] for source, target in zip(pairs["source"], pairs["target"], strict=True)]
    np.testing.assert_allclose(found, pairs["overlap"], atol=1e-5)
    later, earlier = "layers.1.o.write", "layers.0.q.read"  # no signal goes that way, so that it is no pair
    expected = projection_overlap(tiny.bases[later], tiny.bases[earlier])
    assert stream.loc[later, earlier] == pytest.approx(float(expected), abs=1e-5)
    tiny.save(tmp_path / "out")
    pd.testing.assert_frame_equal(Analysis.load(tmp_path / "out").overlap_matrix("stream"), stream)
    with pytest.raises(ValueError, match="got 'layers'"):
        tiny.overlap_matrix("layers")


def test_save_refuses_what_is_not_its_own_and_a_later_schema(tiny, tmp_path):
    tiny.save(tmp_path / "out")
    with pytest.raises(FileExistsError, match="overwrite"):
        tiny.save(tmp_path / "out")
    tiny.save(tmp_path / "out", overwrite=True)
    file = tmp_path / "out" / "result.json"
    file.write_text(file.read_text().replace('"schema_version": 9', '"schema_version": 10'))
    with pytest.raises(ResultError, match="expected schema version 9, found 10"):
        Analysis.load(tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="found nothing"):
        Analysis.load(tmp_path / "nowhere")


def test_far_layers_are_counted_as_the_lags_are_where_layers_are_left_out():
    analysis = analyze(load(tiny_llama(layers=7), config=CONFIG | {"num_hidden_layers": 7}), rank=3, layers=[0, 3, 6])
    lags = analysis.continuity_by_lag.query("role == 'q' and side == 'read'").set_index("lag")
    assert lags["distant"].to_dict() == {1: False, 2: True}
    row = analysis.summary.set_index(["role", "side"]).loc[("q", "read")]
    assert row["far_lag"] == 2
    assert row["overlap_far"] == lags.loc[2, "overlap"]


@pytest.mark.parametrize("silent", [[1], [0, 1, 2, 3]])
def test_pairs_without_a_direction_do_not_count(silent):
    tensors = tiny_llama(layers=4)
    for layer in silent:
        tensors[f"model.layers.{layer}.mlp.up_proj.weight"] *= 0
    analysis = analyze(load(tensors, config=CONFIG | {"num_hidden_layers": 4}), rank=3, roles=["up"])
    cosines = analysis.continuity.query("side == 'read'")["abs_cos_1"].dropna()
    row = analysis.summary.set_index("side").loc["read"]
    mean, spread = abs_cosine_moments(24)
    assert row["layer_pairs"] == len(cosines) == (1 if len(silent) == 1 else 0)
    expected = (cosines.mean() - mean) / spread if len(cosines) else math.nan
    assert row["abs_cos_1_z"] == pytest.approx(expected, nan_ok=True)


def test_significant_layer_pairs_are_counted_where_a_space_is_shared():
    tensors, direction = tiny_llama(layers=5), random_frame(24, 1, seed=9).float()
    for layer in (1, 2, 3):
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        tensors[name] += 50 * random_frame(len(tensors[name]), 1, seed=layer).float() @ direction.mT
    analysis = analyze(load(tensors, config=CONFIG | {"num_hidden_layers": 5}), rank=3, roles=["q", "up"])
    counts = analysis.summary.set_index(["role", "side"])[["significant_pairs", "layer_pairs"]]
    assert counts.loc[("up", "read")].tolist() == [2, 4]
    assert counts.loc[("q", "read")].tolist() == [0, 4]
    assert counts.loc[[("up", "write"), ("q", "write")], "significant_pairs"].isna().all()
