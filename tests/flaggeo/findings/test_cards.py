"""Cards against the findings that they are made of, on weights whose answer was planted."""

from dataclasses import replace

import pytest
import torch

from flaggeo import analyze, load
from flaggeo.findings import cards, findings
from flaggeo.findings.words import short_name
from tests.builders import CONFIG, random_frame, related_llama, tiny_llama, with_gains

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


@pytest.mark.parametrize("gains", ["of one", "one loud", "mixed"])
def test_verdicts_are_the_same_with_folded_norms_and_without(gains):
    """One loud gain of all norms makes one outlier channel of directions that were none."""
    tensors = related_llama(layers=LAYERS)
    if gains == "mixed":
        tensors = with_gains(tensors)
    if gains == "one loud":
        for layer in range(LAYERS):
            tensors[f"model.layers.{layer}.input_layernorm.weight"][5] *= 200
    found = [cards_of(tensors, measure="continuity", fold_norms=folded) for folded in (False, True)]
    badges, folded = ({(card.badge, frozenset(card.lines)) for card in one} for one in found)
    assert badges == folded
    if gains != "mixed":
        assert ("depends on folding" in {badge for badge, _ in badges}) == (gains == "one loud")


@pytest.mark.slow
def test_verdicts_of_minilm_are_the_same_with_folded_norms_and_without(minilm_folder):
    found = [
        cards(findings(analyze(minilm_folder, measure="continuity", fold_norms=fold)), {}) for fold in (False, True)
    ]
    badges, folded = ({(card.badge, frozenset(card.lines)) for card in one} for one in found)
    assert badges == folded
    assert {"carried across layers", "depends on folding"} <= {badge for badge, _ in badges}


def test_a_direction_beside_an_outlier_channel_is_not_explained_by_it():
    """The channel alone gives |cos| of 1; what the other channels share is seen once it is no louder than they."""
    tensors = with_outlier_channel(related_llama(layers=LAYERS))
    found = [card for card in cards_of(tensors, measure="continuity") if ("down", "write") in card.lines]
    assert [card.verdict for card in found] == ["partly_outlier_channels"]


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


def test_a_card_with_both_readings_names_every_role_in_both():
    """In the planted network a norm stands before q, k and v alone."""
    [first, *_] = cards_of(with_gains(related_llama(layers=LAYERS)), measure="continuity")
    names = [[one.split("\N{NO-BREAK SPACE}")[0] for one in numbers.split(" · ")] for _, numbers in first.readings]
    assert names == [[role for role, _ in first.lines]] * 2
    assert first.readings[0] != first.readings[1]


def test_a_console_shows_both_readings_as_they_are():
    """A console spells out what does not print, such as the no-break spaces that hold the page's numbers together."""
    [first, *_] = cards_of(with_gains(related_llama(layers=LAYERS)), measure="continuity")
    told = replace(first, verdict="depends_on_folding").told
    assert told.isprintable()
    assert all(text.replace("\N{NO-BREAK SPACE}", " ") in told for _, text in first.readings)


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
    [repeated] = [card for card in found if "L1H1.q" in card.number and card.place == "repeats"]
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
