"""Random networks whose entries have a common mean: nothing is aligned, and the numbers are named for what they are."""

from functools import cache

import pytest
import torch

from flaggeo import analyze, load
from flaggeo.findings import findings, graph_findings
from tests.builders import random_frame

LAYERS = 6
#: Verdicts that claim an alignment or a structure.
CLAIMS = {"present", "small", "persists", "decays"}


def decoder(weight, *, width, hidden, heads=4, groups=2, head_width=16):
    """Llama-style decoder, each matrix made by ``weight(rows, columns, layer, reads)``."""
    shapes = {
        "self_attn.q_proj": (heads * head_width, width),
        "self_attn.k_proj": (groups * head_width, width),
        "self_attn.v_proj": (groups * head_width, width),
        "self_attn.o_proj": (width, heads * head_width),
        "mlp.gate_proj": (hidden, width),
        "mlp.up_proj": (hidden, width),
        "mlp.down_proj": (width, hidden),
    }
    tensors = {f"{name}.weight": weight(100, width, 0, True) for name in ("model.embed_tokens", "lm_head")}
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = weight(*shape, layer, shape[1] == width)
    config = {"model_type": "llama", "num_hidden_layers": LAYERS, "num_attention_heads": heads}
    return load(tensors, config=config | {"num_key_value_heads": groups})


def encoder(weight, *, width, hidden, heads=4):
    """BERT-style encoder: layer norms without effect behind the blocks."""
    tensors = {"embeddings.word_embeddings.weight": weight(100, width, 0, True)}
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        block = f"encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            tensors[f"{block}.attention.self.{name}.weight"] = weight(width, width, layer, True)
        tensors[f"{block}.attention.output.dense.weight"] = weight(width, width, layer, False)
        tensors[f"{block}.intermediate.dense.weight"] = weight(hidden, width, layer, True)
        tensors[f"{block}.output.dense.weight"] = weight(width, hidden, layer, False)
        norms += [f"{block}.attention.output.LayerNorm", f"{block}.output.LayerNorm"]
    tensors |= {f"{norm}.weight": torch.ones(width) for norm in norms}
    config = {"model_type": "bert", "num_hidden_layers": LAYERS, "num_attention_heads": heads, "hidden_act": "gelu"}
    return load(tensors, config=config)


def with_mean(seed, *, mean=0.3, turning=False, rows=0.0, channels=0.0):
    """Matrices of independent entries of this mean, of the sign of the layer's number if `turning`.

    The channels of the stream have scales that all layers share, whose logarithms have this standard deviation, and
    those of the other side scales of their own.
    """
    generator = torch.Generator().manual_seed(seed)

    def weight(m, n, layer, reads):
        matrix = torch.randn(m, n, generator=generator) + mean * ((-1) ** layer if turning else 1)
        width, other = (n, m) if reads else (m, n)
        shared = (channels * torch.randn(width, generator=torch.Generator().manual_seed(99))).exp()
        own = (rows * torch.randn(other, generator=generator)).exp()
        return matrix * (own[:, None] * shared if reads else shared[:, None] * own)

    return weight


def with_constant_reads(seed):
    """Matrices of which those that read the stream read the constant direction in every row: W + r 1'."""
    generator = torch.Generator().manual_seed(seed)

    def weight(m, n, _layer, reads):
        matrix = torch.randn(m, n, generator=generator)
        return matrix + 5 * torch.randn(m, 1, generator=generator) if reads else matrix

    return weight


DRAWN = {"measure": ("continuity", "pairs", "heads", "interfaces"), "draws": 8}
NARROW, WIDE = {"width": 64, "hidden": 96}, {"width": 128, "hidden": 256, "head_width": 32}
CASES = {
    "decoder": (decoder, NARROW, with_mean(0), {}),
    "decoder, drawn": (decoder, NARROW, with_mean(1), DRAWN),
    "decoder, scales": (decoder, NARROW, with_mean(2, rows=0.3, channels=0.25), {}),
    "encoder that reads the constant": (encoder, {"width": 96, "hidden": 160}, with_constant_reads(3), {}),
}
SLOW_CASES = {
    "decoder, signs": (decoder, NARROW, with_mean(4, turning=True), DRAWN),
    "decoder, scales, drawn": (decoder, NARROW, with_mean(5, rows=0.3, channels=0.25), DRAWN),
    "wide decoder": (decoder, WIDE, with_mean(6), {}),
    "wide decoder, drawn": (decoder, WIDE, with_mean(7), DRAWN),
    "encoder": (encoder, {"width": 96, "hidden": 256}, with_mean(8), DRAWN),
    "encoder that reads the constant, drawn": (encoder, {"width": 96, "hidden": 160}, with_constant_reads(9), DRAWN),
}


@cache
def analysed(case):
    build, sizes, weight, options = (CASES | SLOW_CASES)[case]
    return analyze(build(weight, **sizes), **({"measure": ("continuity", "pairs", "interfaces")} | options))


@pytest.mark.parametrize("case", [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_CASES)])
def test_a_common_mean_is_no_alignment_and_is_named(case):
    analysis = analysed(case)
    shared = analysis.continuity[analysis.continuity["shared_space"]]
    reads = shared[shared["side"] == "read"]
    assert reads["abs_cos_1"].mean() > 0.5 > 3 * reads["abs_cos_1_null_mean"].mean()
    assert analysis.graph.number_of_edges() == 0
    assert shared["abs_cos_1_q_value"].min() > 0.05
    records = [*findings(analysis), *graph_findings(analysis.structure)]
    assert not [record for record in records if record.verdict in CLAIMS]
    (named,) = [
        record
        for record in records
        if (record.kind, record.verdict) == ("continuity", "explained_by_common_mean")
        and record.numbers["roles"][0]["side"] == "read"
    ]
    for row in named.numbers["roles"]:
        assert row["mean_matched"] == pytest.approx(row["cosine"], abs=0.12)
        assert row["mean_share"] > 0.3
    assert not (analysis.heads["overlap_q_value"] <= 0.01).any()


def test_composed_weights_with_a_common_mean_are_named():
    """Hidden units that all write and all read with one sign."""
    (record,) = [record for record in findings(analysed("decoder")) if record.kind == "composed_weights"]
    assert record.verdict == "explained_by_common_mean"
    assert record.place == "interfaces"
    assert set(record.numbers["aligned"]) == {"up-down", "gate-down"}
    for row in record.numbers["kinds"]:
        assert row["overlap"] < row["mean_matched"] + 0.02


def test_a_direction_that_is_shared_beside_a_common_mean_stays_a_finding():
    """The inputs of up have a direction of their own in every layer, stronger than the mean."""
    direction = random_frame(NARROW["width"], 1, seed=7).float()
    network_weight = with_mean(10)

    def weight(m, n, layer, reads):
        matrix = network_weight(m, n, layer, reads)
        if (m, n) != (NARROW["hidden"], NARROW["width"]):
            return matrix
        return matrix + 60 * random_frame(m, 1, seed=layer).float() @ direction.mT

    analysis = analyze(decoder(weight, **NARROW), rank=1)
    (kept,) = [record for record in findings(analysis) if (record.kind, record.verdict) == ("continuity", "present")]
    assert {row["role"] for row in kept.numbers["roles"]} == {"gate", "up"}
    assert all(row["mean_share"] < 0.2 for row in kept.numbers["roles"])
    edges = {(source, target) for source, target, _ in analysis.graph.edges}
    assert {(f"layers.{layer}.up.read", f"layers.{layer + 1}.up.read") for layer in range(LAYERS - 1)} <= edges
