import numpy as np
import torch

from flaggeo import analyze, load
from flaggeo.findings import findings
from tests.builders import CONFIG, random_frame, tiny_llama

LAYERS = 6


def told(tensors, rank=4, **options):
    return findings(analyze(load(tensors, config=CONFIG | {"num_hidden_layers": LAYERS}), rank=rank, **options))


def with_leading(tensors, role, read=None, write=None):
    """Give every layer's weight one strong direction on the side asked for."""
    for layer in range(LAYERS):
        name = f"model.layers.{layer}.{role}.weight"
        rows, columns = tensors[name].shape
        left = random_frame(rows, 1, seed=layer).float() if write is None else write[:, None]
        right = random_frame(columns, 1, seed=50 + layer).float() if read is None else read[:, None]
        tensors[name] = 0.1 * tensors[name] + 50 * left @ right.mT
    return tensors


def test_unrelated_weights_are_called_close_to_chance():
    sentences = told(tiny_llama(layers=LAYERS))
    assert [sentence.split()[0] for sentence in sentences] == ["Little", "Without"]
    assert sentences[0].startswith("Little carries over from layer to layer for")
    assert "depend on the basis" in sentences[1]


def test_a_shared_reading_direction_is_called_carried_over():
    direction = random_frame(24, 1, seed=99)[:, 0].float()
    sentences = told(with_leading(tiny_llama(layers=LAYERS), "mlp.up_proj", read=direction))
    carried = next(sentence for sentence in sentences if "direction of reading carries over" in sentence)
    assert "up 1.00" in carried
    assert "unrelated weights give 0.165" in carried  # Gamma(12) / (sqrt(pi) Gamma(12.5)) = 0.1645


def test_one_loud_channel_is_not_taken_for_alignment():
    channel = torch.zeros(24)
    channel[5] = 1
    sentences = told(with_leading(tiny_llama(layers=LAYERS), "mlp.down_proj", write=channel))
    warned = next(sentence for sentence in sentences if "outlier channels" in sentence)
    assert "In writing, down 1.00 looks continuous too" in warned
    assert "1 of 24 channels" in warned
    assert not any("direction of writing carries over" in sentence and "down" in sentence for sentence in sentences)


def test_draws_tell_a_loud_channel_from_a_shared_direction():
    channel, direction = torch.zeros(24), random_frame(24, 1, seed=99)[:, 0].float()
    channel[5] = 1
    tensors = with_leading(tiny_llama(layers=LAYERS), "mlp.down_proj", write=channel)
    sentences = told(with_leading(tensors, "mlp.up_proj", read=direction), draws=5)
    real = next(sentence for sentence in sentences if "direction of reading carries over" in sentence)
    assert "up 1.00" in real
    assert "nulls that keep how loud each channel is 0." in real
    explained = next(sentence for sentence in sentences if "outlier channels account for" in sentence)
    assert "In writing, down 1.00 looks continuous too" in explained
    assert "gives down 1.00" in explained
    assert "rows brought to one norm" in explained
    assert not any("of 24 channels" in sentence for sentence in sentences)  # measured: no guess is needed


def test_a_global_direction_is_told_from_a_path_that_turns():
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
    roles = ["q", "k", "v"]

    def distance(tensors):
        network = load(tensors, config=CONFIG | {"num_hidden_layers": LAYERS})
        return next(s for s in findings(analyze(network, rank=4, roles=roles)) if "or more apart" in s)

    assert "the whole network shares" in distance(fixed)
    assert "they turn with depth" in distance(turning)


def test_too_little_to_compare_is_said():
    network = load(tiny_llama(), config=CONFIG)
    assert findings(analyze(network, roles=["down"], layers=[1])) == [
        "Too few weights share a space here to compare anything."
    ]


def test_the_strongest_meeting_is_named():
    tensors = tiny_llama(layers=LAYERS)
    shared = random_frame(24, 4, seed=1).float()
    tensors["model.layers.0.mlp.down_proj.weight"] = shared @ random_frame(40, 4, seed=2).float().mT
    tensors["model.layers.4.mlp.gate_proj.weight"] = random_frame(40, 4, seed=3).float() @ shared.mT
    # Among all pairs of so narrow a stream, signs of the coordinates could have done it.
    sentences = told(tensors, roles=["down", "gate"])
    assert any("layers.0.down.write into layers.4.gate.read overlap most: 1.00" in sentence for sentence in sentences)
    assert np.all([sentence.endswith(".") for sentence in sentences])


def test_single_steps_that_break_are_named():
    direction, other = (random_frame(24, 1, seed=seed)[:, 0].float() for seed in (99, 98))
    tensors = with_leading(tiny_llama(layers=LAYERS), "mlp.up_proj", read=direction)
    tensors = with_leading(tensors, "mlp.gate_proj", read=direction)
    turned = with_leading(tiny_llama(layers=LAYERS), "mlp.up_proj", read=other)
    tensors |= {name: turned[name] for name in ("model.layers.2.mlp.up_proj.weight",)}
    steps = next(sentence for sentence in told(tensors) if sentence.startswith("Step by step"))
    assert "reading carries over in 5 of 5 for gate and 3 of 5 for up (not from layers 1 and 2 to the next)." in steps
    assert "false discovery rate 1%" in steps


def test_quiet_channels_that_agree_beside_a_loud_one_are_not_said_to_carry_over():
    """Directions of writing with most of their weight on one channel; what else they have is mostly shared."""
    tensors = tiny_llama(layers=LAYERS)
    axes = random_frame(23, 1 + LAYERS, seed=99).float()
    for layer in range(LAYERS):
        quiet = 0.35 * axes[:, 0] + 0.15 * axes[:, 1 + layer]
        direction = torch.cat([torch.tensor([0.92]), quiet])
        name = f"model.layers.{layer}.mlp.down_proj.weight"
        tensors[name] = 0.1 * tensors[name] + 50 * direction[:, None] @ random_frame(40, 1, seed=layer).float().mT
    sentences = told(tensors, draws=5)
    explained = next(sentence for sentence in sentences if "outlier channels account for" in sentence)
    assert "(5 of 5 for down), but it is the loud ones that make the numbers" in explained
    assert not any(sentence.startswith("Step by step") for sentence in sentences)


def test_single_steps_of_a_role_of_which_little_carries_over_are_counted():
    tensors, axes = tiny_llama(layers=LAYERS), random_frame(24, LAYERS, seed=7).float()
    for layer, axis in enumerate([0, 1, 2, 3, 3, 4]):
        left = random_frame(40, 1, seed=layer).float()
        tensors[f"model.layers.{layer}.mlp.up_proj.weight"] = left @ axes[:, axis][None]
    little = next(sentence for sentence in told(tensors) if sentence.startswith("Little"))
    assert little.endswith("; at single steps it does, 1 of 5 for up.")


def test_redundant_heads_are_told_with_what_loud_channels_leave_of_them():
    tensors = tiny_llama(layers=LAYERS)
    earlier, later = (tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] for layer in (1, 4))
    later[:10] = earlier[10:20]
    told_of = next(sentence for sentence in told(tensors, heads=True, draws=2) if "One group of heads" in sentence)
    assert "closest by 1.00 on average, by 1.00 beyond what loud channels account for" in told_of
    assert told_of.endswith("layers.1.q.heads.1.read, layers.4.q.heads.0.read.")
