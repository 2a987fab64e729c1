import dataclasses
import math

import pytest
import torch

from flaggeo import analyze, load
from flaggeo.findings import cards, findings
from flaggeo.findings.repeats import repeating_heads, repeats_findings, repeats_table
from tests.builders import CONFIG, random_frame, related_llama, tiny_llama

LAYERS = 6
UNRELATED = math.gamma(12) / math.gamma(12.5) / math.sqrt(math.pi)  # mean |cos| of two directions in 24 dimensions


def found(tensors, rank=4, **options):
    return findings(analyze(load(tensors, config=CONFIG | {"num_hidden_layers": LAYERS}), rank=rank, **options))


def of(kind, records, verdict=None):
    return [record for record in records if record.kind == kind and verdict in (None, record.verdict)]


def roles(record):
    return {row["role"]: row for row in record.numbers["roles"]}


def with_leading(tensors, role, read=None, write=None):
    """Give every layer's weight one strong direction on the side asked for."""
    for layer in range(LAYERS):
        name = f"model.layers.{layer}.{role}.weight"
        rows, columns = tensors[name].shape
        left = random_frame(rows, 1, seed=layer).float() if write is None else write[:, None]
        right = random_frame(columns, 1, seed=50 + layer).float() if read is None else read[:, None]
        tensors[name] = 0.1 * tensors[name] + 50 * left @ right.mT
    return tensors


def test_unrelated_weights_keep_nothing():
    records = found(tiny_llama(layers=LAYERS))
    assert [(record.kind, record.verdict) for record in records] == [
        ("continuity", "absent"),
        ("basis_independence", "partial"),
    ]
    assert not records[1].numbers["fold_norms"]


def test_a_shared_input_direction_is_kept():
    direction = random_frame(24, 1, seed=99)[:, 0].float()
    records = found(with_leading(tiny_llama(layers=LAYERS), "mlp.up_proj", read=direction))
    (kept,) = of("continuity", records, "present")
    assert set(roles(kept)) == {"up"}
    up = roles(kept)["up"]
    assert (up["side"], kept.place) == ("read", "continuity")
    assert up["cosine"] == pytest.approx(1, abs=5e-3)
    assert up["unrelated"] == pytest.approx(UNRELATED)


def test_one_outlier_channel_is_not_taken_for_alignment():
    channel = torch.zeros(24)
    channel[5] = 1
    records = found(with_leading(tiny_llama(layers=LAYERS), "mlp.down_proj", write=channel))
    (explained,) = of("continuity", records, "explained_by_outlier_channels")
    down = roles(explained)["down"]
    assert (down["side"], down["dimension"], round(down["channels"])) == ("write", 24, 1)
    assert down["cosine"] == pytest.approx(1, abs=5e-3)
    assert down["largest_null"] == pytest.approx(1, abs=5e-3)
    assert not any("down" in roles(record) for record in of("continuity", records, "present"))


def test_draws_tell_an_outlier_channel_from_a_shared_direction():
    channel, direction = torch.zeros(24), random_frame(24, 1, seed=99)[:, 0].float()
    channel[5] = 1
    tensors = with_leading(tiny_llama(layers=LAYERS), "mlp.down_proj", write=channel)
    records = found(with_leading(tensors, "mlp.up_proj", read=direction), draws=5)
    (kept,) = of("continuity", records, "present")
    assert roles(kept)["up"]["cosine"] == pytest.approx(1, abs=5e-3)
    assert UNRELATED < roles(kept)["up"]["largest_null"] < 1
    (explained,) = of("continuity", records, "explained_by_outlier_channels")
    down = roles(explained)["down"]
    assert (down["side"], round(down["cosine"], 2), round(down["largest_null"], 2)) == ("write", 1, 1)
    assert down["equal_norms"] < 0.9
    assert not of("continuity", records, "undetermined")  # measured: no guess is needed


def test_a_global_direction_is_told_from_alignment_that_decays():
    frame = random_frame(24, 4, seed=7).float()
    fixed, turning = tiny_llama(layers=LAYERS), tiny_llama(layers=LAYERS)
    axes = random_frame(24, 24, seed=8).float()
    for layer in range(LAYERS):
        for role in ("q", "k", "v"):
            name = f"model.layers.{layer}.self_attn.{role}_proj.weight"
            rows = fixed[name].shape[0]
            scale = torch.tensor([9.0, 7.0, 5.0, 3.0])
            fixed[name] = (random_frame(rows, 4, seed=layer).float() * scale) @ frame.mT
            turning[name] = (random_frame(rows, 4, seed=layer).float() * scale) @ axes[:, 2 * layer : 2 * layer + 4].mT

    def over_depth(tensors):
        (record,) = of("alignment_over_depth", found(tensors, roles=["q", "k", "v"]))
        return record

    assert over_depth(fixed).verdict == "persists"
    assert over_depth(fixed).numbers["far"] == pytest.approx(1)
    decaying = over_depth(turning)
    assert decaying.verdict == "decays"
    assert decaying.numbers["far"] < 0 < decaying.numbers["near"]
    assert (decaying.numbers["layers_apart"], decaying.numbers["roles"]) == (3, ["q", "k", "v"])


def test_a_mean_over_roles_leaves_out_those_that_outlier_channels_explain():
    channel, direction = torch.zeros(24), random_frame(24, 1, seed=99)[:, 0].float()
    channel[5] = 1
    tensors = with_leading(tiny_llama(layers=LAYERS), "mlp.down_proj", write=channel)
    records = found(with_leading(tensors, "mlp.up_proj", read=direction), rank=1)
    assert set(roles(of("continuity", records, "explained_by_outlier_channels")[0])) == {"down"}
    assert of("alignment_over_depth", records)[0].numbers["roles"] == ["up"]


def test_too_little_to_compare_is_said():
    network = load(tiny_llama(), config=CONFIG)
    records = findings(analyze(network, roles=["down"], layers=[1]))
    assert [(record.kind, record.verdict) for record in records] == [("comparable_weights", "absent")]


def test_the_strongest_overlap_is_named():
    tensors = tiny_llama(layers=LAYERS)
    shared = random_frame(24, 4, seed=1).float()
    tensors["model.layers.0.mlp.down_proj.weight"] = shared @ random_frame(40, 4, seed=2).float().mT
    tensors["model.layers.4.mlp.gate_proj.weight"] = random_frame(40, 4, seed=3).float() @ shared.mT
    # Among all pairs of so narrow a stream, signs of the coordinates could have done it.
    records = of("strongest_overlap", found(tensors, roles=["down", "gate"]))
    (strongest,) = [record for record in records if record.numbers["pair_kind"] == "write-read"]
    assert (strongest.numbers["source"], strongest.numbers["target"]) == ("layers.0.down.write", "layers.4.gate.read")
    assert strongest.numbers["overlap"] == pytest.approx(1)
    assert strongest.numbers["unrelated"] == pytest.approx(4 / 24)
    assert strongest.place == "graph"


def test_layer_pairs_that_break_are_named():
    direction, other = (random_frame(24, 1, seed=seed)[:, 0].float() for seed in (99, 98))
    tensors = with_leading(tiny_llama(layers=LAYERS), "mlp.up_proj", read=direction)
    tensors = with_leading(tensors, "mlp.gate_proj", read=direction)
    turned = with_leading(tiny_llama(layers=LAYERS), "mlp.up_proj", read=other)
    tensors |= {name: turned[name] for name in ("model.layers.2.mlp.up_proj.weight",)}
    (pairs,) = of("continuity_by_layer_pair", found(tensors))
    assert (pairs.numbers["side"], pairs.numbers["false_discovery_rate"]) == ("read", 0.01)
    counted = {"layer_pairs": 5, "demoted_after": []}
    assert roles(pairs) == {
        "gate": {"role": "gate", "significant": 5, "breaks_after": []} | counted,
        "up": {"role": "up", "significant": 3, "breaks_after": [1, 2]} | counted,
    }


def test_channels_of_small_norm_that_agree_beside_an_outlier_do_not_keep_the_direction():
    """Output directions with most of their weight on one channel; what else they have is mostly shared."""
    tensors = tiny_llama(layers=LAYERS)
    axes = random_frame(23, 1 + LAYERS, seed=99).float()
    for layer in range(LAYERS):
        quiet = 0.35 * axes[:, 0] + 0.15 * axes[:, 1 + layer]
        direction = torch.cat([torch.tensor([0.92]), quiet])
        name = f"model.layers.{layer}.mlp.down_proj.weight"
        tensors[name] = 0.1 * tensors[name] + 50 * direction[:, None] @ random_frame(40, 1, seed=layer).float().mT
    records = found(tensors, draws=5)
    (partly,) = of("continuity", records, "partly_outlier_channels")
    # In 24 dimensions the mean over the channels could make one of the five.
    assert [roles(partly)["down"][name] for name in ("significant", "layer_pairs")] == [4, 5]
    assert roles(partly)["down"]["equal_norms"] > 0.5
    assert not of("continuity", records, "explained_by_outlier_channels")
    assert not of("continuity_by_layer_pair", records)


def test_layer_pairs_of_a_role_that_keeps_little_are_counted():
    tensors, axes = tiny_llama(layers=LAYERS), random_frame(24, LAYERS, seed=7).float()
    for layer, axis in enumerate([0, 1, 2, 3, 3, 4]):
        left = random_frame(40, 1, seed=layer).float()
        tensors[f"model.layers.{layer}.mlp.up_proj.weight"] = left @ axes[:, axis][None]
    (little,) = of("continuity", found(tensors), "absent")
    counts = {role: (row["significant"], row["layer_pairs"]) for role, row in roles(little).items()}
    assert counts["up"] == (1, 5)
    assert {count for role, count in counts.items() if role != "up"} == {(0, 5)}


def test_redundant_heads_come_with_their_excess_over_the_largest_null():
    tensors = tiny_llama(layers=LAYERS)
    earlier, later = (tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] for layer in (1, 4))
    later[:10] = earlier[10:20]
    (redundant,) = of("redundant_heads", found(tensors, measure="all", draws=2))
    assert (redundant.verdict, redundant.place, redundant.numbers["groups"]) == ("present", "repeats", 1)
    assert redundant.numbers["heads"] == ["layers.1.q.heads.1.read", "layers.4.q.heads.0.read"]
    assert [redundant.numbers[name] for name in ("effect_size", "excess")] == pytest.approx([1, 1])


def test_rows_that_cannot_be_significant_are_counted():
    """By the smallest p-value that the nulls of a row can give."""
    analysis = analyze(load(tiny_llama(), config=CONFIG), rank=2, roles=["q", "k"])
    assert not of("p_value_resolution", findings(analysis))
    floors = [0.001, 0.01, 0.03, 0.25, float("nan")]
    continuity = analysis.continuity.head(5).assign(abs_cos_1_p_value_floor=floors)
    pairs = analysis.pairs.assign(overlap_p_value_floor=1e-9)
    coarse = dataclasses.replace(analysis, continuity=continuity, pairs=pairs)
    vars(coarse).update(summary=analysis.summary)
    (record,) = of("p_value_resolution", findings(coarse))
    assert (record.verdict, record.place) == ("undetermined", "continuity")
    assert record.numbers == {
        "what": "layer pair",
        "rows": 2,
        "of": 4,
        "smallest_floor": 0.03,
        "false_discovery_rate": 0.01,
    }


@pytest.fixture(scope="module")
def interfaces():
    """An analysis of MLPs of unrelated weights, in six layers."""
    network = load(tiny_llama(layers=LAYERS), config=CONFIG | {"num_hidden_layers": LAYERS})
    return analyze(network, rank=4, roles=["up", "gate", "down"], measure="interfaces")


def with_effects(analysis, **effects):
    """The same with these effect sizes over the largest null, or below the smallest, in each layer to within 0.002."""
    table = analysis.interfaces.copy()
    nulls = table[["overlap_null_mean", "overlap_sign_flip_mean", "overlap_mean_matched_mean"]]
    for kind, effect in effects.items():
        rows = table["kind"] == kind.replace("_", "-")
        null = nulls.max(axis=1) if effect > 0 else nulls.min(axis=1)
        planted = null + effect * (1 - null) + 0.002 * (-1) ** table["layer"]
        table.loc[rows, "overlap"] = planted[rows]
    return dataclasses.replace(analysis, interfaces=table)


@pytest.mark.parametrize(
    ("effects", "verdict", "badge"),
    [
        ({"up_down": 0.5}, "present", "aligned"),
        ({"up_down": 0.16}, "present", "aligned"),
        ({"up_down": 0.14}, "small", "small effect"),
        ({"up_down": 0.05, "gate_down": 0.06}, "small", "small effect"),
        ({"up_down": 0.5, "gate_down": 0.06}, "present", "aligned"),
        ({"up_down": -0.09}, "below_chance", "below chance"),
        ({"up_down": 0.5, "gate_down": -0.09}, "present", "aligned"),
    ],
)
def test_a_small_effect_is_not_called_aligned_however_significant(interfaces, effects, verdict, badge):
    (record,) = of("composed_weights", findings(with_effects(interfaces, **effects)))
    planted = {kind.replace("_", "-"): effect for kind, effect in effects.items()}
    assert record.verdict == verdict
    assert set(record.numbers["aligned"]) == {kind for kind, effect in planted.items() if effect > 0}
    assert set(record.numbers["small"]) == {kind for kind, effect in planted.items() if 0 < effect < 0.15}
    assert record.numbers["below_chance"] == [kind for kind, effect in planted.items() if effect < 0]
    (card,) = cards([record], {})
    assert card.badge == badge
    assert all(kind in card.number + card.detail for kind in planted)


def test_one_kind_of_interface_at_its_null_is_no_finding(interfaces):
    assert not of("composed_weights", findings(with_effects(interfaces, up_down=0.003, gate_down=0.003)))


@pytest.mark.parametrize(("excess", "verdict"), [(0.14, "small"), (0.16, "present")])
def test_the_strongest_overlap_is_large_or_small_by_its_excess(excess, verdict):
    analysis = analyze(load(related_llama(), config=CONFIG), rank=2, roles=["up", "down"])
    pairs = analysis.pairs.assign(overlap_excess=excess)
    changed = dataclasses.replace(analysis, pairs=pairs)
    vars(changed).update(graph=analysis.graph)
    records = of("strongest_overlap", findings(changed))
    assert {record.verdict for record in records} == {verdict}


def test_repeating_heads_are_counted_once_and_in_each_way():
    """One pair that is the same at full width, and another that shares its leading directions alone."""
    tensors = tiny_llama(layers=LAYERS)
    earlier, later = (tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] for layer in (1, 4))
    later[:10] = earlier[10:20]
    leading = 30 * random_frame(24, 2, seed=5).float()
    for layer, head in ((0, 2), (3, 1)):
        rows = tensors[f"model.layers.{layer}.self_attn.q_proj.weight"][10 * head : 10 * head + 10]
        rows += random_frame(10, 2, seed=layer).float() @ leading.mT
    network = load(tensors, config=CONFIG | {"num_hidden_layers": LAYERS})
    analysis = analyze(network, rank=2, measure=("pairs", "heads", "structure"))
    (record,) = repeats_findings(analysis)
    pairs = [
        {"layers.1.q.heads.1.read", "layers.4.q.heads.0.read"},
        {"layers.0.q.heads.2.read", "layers.3.q.heads.1.read"},
    ]
    groups = {frozenset(group.heads): (group.of_whole, group.of_leading) for group in repeating_heads(analysis)}
    assert [groups[frozenset(pair)] for pair in pairs] == [(True, True), (False, True)]
    numbers = record.numbers
    assert numbers["groups"] == len(groups) == numbers["whole"] + numbers["leading"] - numbers["both"]
    assert (numbers["whole"], numbers["both"], numbers["rank"], numbers["explained"]) == (1, 1, 2, 0)
    assert (repeats_table(analysis)["what"] == "heads").sum() == numbers["shown"]
    without = dataclasses.replace(
        analysis,
        provenance=analysis.provenance | {"settings": analysis.settings.record() | {"measure": ["pairs", "heads"]}},
    )
    (record,) = repeats_findings(without)
    assert (record.numbers["groups"], record.numbers["leading"], record.numbers["rank"]) == (1, 0, None)
