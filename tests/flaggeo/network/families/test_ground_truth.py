"""The table against the models themselves: changes that its roles, cuts, heads and norms call harmless are harmless."""

import re

import pytest
import torch

from flaggeo.network.families.derivation.tiny import OTHER
from tests.flaggeo.network.families.tiny_models import SAMPLE, TYPES, TinyModel, filled, fits

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of its own deprecations

EVERY = [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in TYPES]

# Where queries meet more than keys, a query cannot be scaled against its key alone.
MORE_THAN_KEYS = {"deberta", "deberta-v2", "speecht5", "xlnet"}
# Reasons of tensors whose numbers are added to activations, or stand among these.
TRANSLATIONS = {"bias", "norm bias", "position table", "segment table", "added", "joined"}


def prepared(model_type):
    """A model without translations and with random gains: its matrices alone, and gains, make the output."""
    tiny = TinyModel(model_type, OTHER, tie_word_embeddings=False)
    naming = tiny.record.live or tiny.record.saved
    reasons = {}
    for template, reason in naming.other.items():
        reasons |= {name: reason for name in tiny.tensors if fits(template, name)}
    tables = [piece.tensor for piece in naming.pieces if piece.role == "embed"]
    embedded = {tensor.data_ptr() for name, tensor in tiny.tensors.items() if any(fits(one, name) for one in tables)}
    torch.manual_seed(0)
    gains = {name: norm.offset for norm in naming.norms for name in tiny.tensors if fits(norm.tensor, name)}
    with torch.no_grad():
        for name, tensor in tiny.tensors.items():
            if reasons.get(name) == "segment table" and (not embedded or tensor.data_ptr() in embedded):
                continue  # without the table of tokens there would be no output
            if reasons.get(name) in TRANSLATIONS | {"factor", "selection"}:
                tensor.zero_()
            elif reasons.get(name) == "scale":
                tensor.copy_(0.5 + torch.rand_like(tensor))
            elif name in gains:
                tensor.copy_(0.5 + torch.rand_like(tensor) - gains[name])
            elif tensor.ndim > 1 and tensor.is_floating_point():
                tensor.mul_(0.3)  # else attention to one position alone amplifies the errors of rounding
    return tiny, naming


def close(after, before):
    return torch.allclose(after, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


@pytest.mark.parametrize("model_type", EVERY)
def test_every_tensor_is_accounted_for(model_type, tmp_path):
    tiny = TinyModel(model_type)
    saved = tiny.saved(tmp_path)
    for naming, cuttings, names in (
        (tiny.record.live or tiny.record.saved, tiny.live, set(tiny.tensors)),
        (tiny.record.saved, saved, set(saved[0].tensors)),
    ):
        layers = {cutting.numbers.get("layer") for cutting in cuttings} - {None} or {0}
        experts = {cutting.numbers.get("expert") for cutting in cuttings} - {None} or {0}
        stages = {cutting.numbers.get("stage") for cutting in cuttings} - {None} or {0}
        templates = {piece.tensor for piece in naming.pieces} | {piece.after for piece in naming.pieces if piece.after}
        templates |= {norm.tensor for norm in naming.norms} | set(naming.other)
        numbers = [
            {"layer": layer, "expert": expert, "stage": stage}
            for layer in layers | {0}
            for expert in experts
            for stage in stages
        ]
        assert names - {filled(template, one) for template in templates for one in numbers} == set()


@pytest.mark.parametrize("model_type", EVERY)
def test_disk_and_module_give_the_same_matrices(model_type, tmp_path):
    tiny = TinyModel(model_type)

    def by_place(cuttings):
        found = {}
        for cutting in cuttings:
            if cutting.piece.role not in ("embed", "unembed"):  # tied, they have several names in memory
                place = (cutting.piece.tower, cutting.piece.role, *sorted(cutting.numbers.items()))
                found.setdefault(place, []).append(cutting.matrix)
        return found

    alive, saved = by_place(tiny.live), by_place(tiny.saved(tmp_path))
    assert alive.keys() == saved.keys()
    for place, matrices in alive.items():
        for matrix in matrices:
            same = [n for n, other in enumerate(saved[place]) if torch.equal(matrix, other)]
            assert same, place
            saved[place].pop(same[0])
        assert not saved[place]


@pytest.mark.parametrize("model_type", EVERY)
def test_a_norm_may_be_folded_into_what_reads_through_it(model_type):
    tiny, naming = prepared(model_type)
    norms = {norm.tensor: norm for norm in naming.norms if not norm.on_stream}
    before = tiny()[0]
    assert before.isfinite().all()
    changed, folded = set(), {}
    tables = {tiny.tensors[cutting.name].data_ptr() for cutting in tiny.live if cutting.piece.role == "embed"}
    for cutting in tiny.live:
        norm = norms.get(cutting.piece.norm)
        if norm is None or cutting.piece.role.endswith(("o", "down", "mixer_out")):
            continue
        if cutting.piece.role == "unembed" and tiny.tensors[cutting.name].data_ptr() in tables:
            continue  # always tied: it has no numbers of its own
        name = filled(norm.tensor, cutting.numbers)
        if name not in tiny.tensors:
            continue  # without gains, or not in this layer
        gain = folded.setdefault(name, tiny.tensors[name] + norm.offset)
        place = (cutting.name, cutting.piece.role, cutting.numbers.get("expert"))
        if cutting.piece.after is not None:
            first = filled(cutting.piece.after, cutting.numbers)
            if first not in changed:
                tiny.tensors[first].mul_(gain)
            changed.add(first)
        elif place not in changed:
            cutting.change(lambda matrix, gain=gain: matrix * gain)
            changed.add(place)
    for name in folded:
        tiny.tensors[name].fill_(1.0 - next(n.offset for n in naming.norms if fits(n.tensor, name)))
    assert close(tiny()[0], before)


@pytest.mark.parametrize("model_type", EVERY)
def test_a_scale_may_be_folded_into_what_writes_before_it(model_type):
    tiny, naming = prepared(model_type)
    if not any(piece.scale for piece in naming.pieces):
        pytest.skip("no scales")
    before = tiny()[0]
    scales = {}
    for cutting in tiny.live:
        if cutting.piece.scale:
            scale = scales.setdefault(filled(cutting.piece.scale, cutting.numbers), cutting)
            assert scale is cutting  # one alone writes before it
            gain = tiny.tensors[filled(cutting.piece.scale, cutting.numbers)]
            cutting.change(lambda matrix, gain=gain: gain[:, None] * matrix)
    assert not close(tiny()[0], before)
    for name in scales:
        tiny.tensors[name].fill_(1.0)
    assert close(tiny()[0], before)


def inner(cuttings):
    """Weights of one block of one layer together, by their roles."""
    blocks = {}
    for cutting in cuttings:
        role = cutting.piece.role
        kind, letter = (
            role.rpartition("_")[::2] if role.partition("_")[0] in ("expert", "shared", "cross") else ("", role)
        )
        beside = re.sub(r"[^.]*$", "", cutting.name.removesuffix(".weight"))
        place = (cutting.piece.tower, kind, *sorted(cutting.numbers.items()), "" if kind == "cross" else None)
        blocks.setdefault(place, {}).setdefault(letter, []).append((beside, cutting))
    return blocks


@pytest.mark.parametrize("model_type", EVERY)
def test_hidden_units_may_be_permuted_and_what_is_gated_may_be_scaled(model_type):
    tiny, _ = prepared(model_type)
    before = tiny()[0]
    blocks = [block for block in inner(tiny.live).values() if {"up", "down"} <= block.keys()]
    if not blocks:
        pytest.skip("no hidden layers")
    for block in blocks:
        if any(len(members) > 1 for members in block.values()):
            pytest.skip("several blocks of one kind in a layer")
        (up,), (down,) = ([cutting for _, cutting in block[role]] for role in ("up", "down"))
        order = torch.randperm(len(up.matrix))
        up.change(lambda matrix, order=order: matrix[order])
        down.change(lambda matrix, order=order: matrix[:, order])
        if "gate" in block:
            ((_, gate),) = block["gate"]
            gate.change(lambda matrix, order=order: matrix[order])
            scale = 0.5 + torch.rand(len(order))
            up.change(lambda matrix, scale=scale: matrix * scale[:, None])
            down.change(lambda matrix, scale=scale: matrix / scale)
    if tiny.record.towers[0].activation is None:
        pytest.skip("the function of the hidden layers clamps or shifts")
    assert close(tiny()[0], before)


@pytest.mark.parametrize("model_type", EVERY)
def test_heads_may_be_scaled_against_each_other(model_type):
    tiny, _ = prepared(model_type)
    before = tiny()[0]
    blocks = [block for block in inner(tiny.live).values() if "v" in block]
    if not blocks or any(tower.heads is None for tower in tiny.record.towers):
        pytest.skip("no heads")
    if any(cutting.piece.role == "v" and cutting.piece.head_norm for cutting in tiny.live):
        pytest.skip("a norm fixes the sizes of values")
    for block in blocks:
        if any(len(members) > 1 for members in block.values()):
            pytest.skip("several blocks of one kind in a layer")
        attention = {role: members[0][1] for role, members in block.items()}
        groups, heads = attention["v"].heads, attention["o"].heads
        scalable = attention["q"].piece.after is None and model_type not in MORE_THAN_KEYS
        scalable &= attention["q"].piece.head_norm is None  # which fixes the sizes of queries and keys
        for group in range(groups):
            factor = 2.0 ** (group % 3 + 1)
            own = range(group * heads // groups, (group + 1) * heads // groups)
            attention["v"].change(lambda matrix, factor=factor: matrix * factor, group)
            for head in own:
                attention["o"].change(lambda matrix, factor=factor: matrix / factor, head)
            if scalable:
                attention["k"].change(lambda matrix, factor=factor: matrix * factor, group)
                for head in own:
                    attention["q"].change(lambda matrix, factor=factor: matrix / factor, head)
    assert close(tiny()[0], before)


@pytest.mark.parametrize("model_type", EVERY)
def test_a_head_of_values_alone_is_felt(model_type):
    """The counterpart of the test above: it would fail if nothing were changed there."""
    tiny, _ = prepared(model_type)
    before = tiny()[0]
    values = [cutting for cutting in tiny.live if cutting.piece.role == "v"]
    if not values or any(tower.heads is None for tower in tiny.record.towers):
        pytest.skip("no heads")
    if values[0].piece.head_norm:
        pytest.skip("a norm fixes the sizes of values")
    values[0].change(lambda matrix: 3 * matrix, values[0].heads - 1)
    assert not close(tiny()[0], before)


def test_a_gate_multiplies_what_down_writes():
    """The channel mixing of RWKV: shut to a half by a gate of zeros, it writes what twice the weight does."""
    tiny, _ = prepared("rwkv")
    modules = dict(tiny.model.named_modules())
    down, gate = ([one for one in tiny.live if one.piece.role == role] for role in ("down", "down_gate"))
    assert [one.numbers for one in gate] == [one.numbers for one in down]
    for one, other in zip(gate, down, strict=True):
        one.change(torch.zeros_like)
        other.change(lambda matrix: 2 * matrix)
    expected = tiny()[0]
    for one, other in zip(gate, down, strict=True):
        other.change(lambda matrix: matrix / 2)
        open_wide = modules[one.name.removesuffix(".weight")]
        open_wide.register_forward_hook(lambda *call: torch.full_like(call[-1], 100.0))
    assert close(tiny()[0], expected)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bert"])
def test_layers_are_counted_in_the_order_in_which_they_run(model_type):
    depth = {"llama": "num_hidden_layers", "gpt2": "n_layer", "bert": "num_hidden_layers"}[model_type]
    tiny = TinyModel(model_type, **{depth: 12})
    modules = dict(tiny.model.named_modules())
    ran = []
    for cutting in tiny.live:
        if cutting.piece.role == "down":
            module = modules[cutting.name.removesuffix(".weight")]
            module.register_forward_hook(lambda *_, layer=cutting.numbers["layer"]: ran.append(layer))
    tiny()
    assert ran == list(range(12))
