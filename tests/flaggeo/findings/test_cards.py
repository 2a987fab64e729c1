"""Cards against the findings that they are made of, on weights whose answer was planted."""

import pytest
import torch

from flaggeo import analyze, load
from flaggeo.findings import cards, findings
from flaggeo.findings.words import short_name
from tests.builders import CONFIG, random_frame, related_llama, tiny_llama

LAYERS = 6


def cards_of(tensors, missing=(), **settings):
    analysis = analyze(load(tensors, config=CONFIG | {"num_hidden_layers": LAYERS}), rank=4, **settings)
    return cards(findings(analysis), dict.fromkeys(missing, "so much"))


def with_outlier_channel(tensors):
    """One output channel of down far above the others, alike in all layers, and nothing else in common."""
    channel = torch.zeros(24)
    channel[5] = 1
    for layer in range(LAYERS):
        name = f"model.layers.{layer}.mlp.down_proj.weight"
        tensors[name] = tensors[name] + 60 * channel[:, None] @ random_frame(40, 1, seed=50 + layer).float().mT
    return tensors


def test_unrelated_weights_open_at_the_null_level():
    [first, *_] = cards_of(tiny_llama(layers=LAYERS))
    assert (first.verdict, first.badge) == ("absent", "null level")
    # Each role on the side that lies in the stream, whichever comes first.
    sides = {"o": "write", "down": "write"}
    assert first.lines
    assert all(side == sides.get(role, "read") for role, side in first.lines)


def test_an_outlier_channel_opens_as_one():
    [first, *_] = cards_of(with_outlier_channel(tiny_llama(layers=LAYERS)))
    assert (first.verdict, first.badge) == ("explained_by_outlier_channels", "outlier channels")
    assert first.lines == (("down", "write"),)
    assert first.nulls[0] > 0.9


def test_directions_in_common_are_carried_and_say_their_numbers():
    found = cards_of(related_llama(layers=LAYERS), measure="all")
    first = found[0]
    assert (first.verdict, first.badge) == ("present", "carried across layers")
    assert {side for _, side in first.lines} == {"read"}
    analysis = analyze(load(related_llama(layers=LAYERS), config=CONFIG | {"num_hidden_layers": LAYERS}), rank=4)
    means = analysis.summary.set_index(["role", "side"])["abs_cos_1"]
    largest = max((role for role, _ in first.lines), key=lambda role: means[role, "read"])
    assert first.number.startswith(f"{largest} {means[largest, 'read']:.2f}")
    assert len(found) <= 6


def test_what_was_not_measured_is_the_last_card():
    found = cards_of(related_llama(layers=LAYERS), missing=("heads", "spectra"))
    assert [card.verdict for card in found].count("not_measured") == 1
    assert found[-1].verdict == "not_measured"
    assert "heads" in found[-1].title.lower()
    assert "spectra" in found[-1].title
    assert len(found) <= 6


def test_heads_that_were_made_equal_are_named():
    tensors = tiny_llama(layers=LAYERS)
    queries = [tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] for layer in (1, 4)]
    queries[1][:10] = queries[0][10:20]
    found = cards_of(tensors, measure="all")
    [repeated] = [card for card in found if "L1H1.q" in card.number and card.place == "heads"]
    assert repeated.verdict == "present"
    assert repeated.picked == ("layers.1.q.heads.1.read", "layers.4.q.heads.0.read")
    assert repeated.bar[0] == pytest.approx(1, abs=1e-3)
    assert all(card.place for card in found)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("layers.18.o.heads.6.write", "L18H6.o"),
        ("layers.4.gate.read", "L4.gate"),
        ("layers.4.gate", "L4.gate"),
        ("decoder.layers.0.cross_q.heads.11", "decoder.L0H11.cross_q"),
        ("embed.write", "embed.write"),
        ("layers.x.q", "layers.x.q"),
    ],
)
def test_short_names(name, short):
    assert short_name(name) == short
