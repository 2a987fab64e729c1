"""Tiny random models of every type of the table, saved by transformers, opened by path, against the live modules."""

from math import prod

import pytest
import torch

from flaggeo import load
from flaggeo.network import ROLE_RECORDS, Side
from flaggeo.network.families.derivation.tiny import tiny_config, tiny_model
from flaggeo.network.roles import bare
from tests.flaggeo.network.families.tiny_models import SAMPLE, TYPES

transformers = pytest.importorskip("transformers")
Conv1D = transformers.pytorch_utils.Conv1D

SOME_OR_ALL = [pytest.param(model_type, marks=[] if model_type in SAMPLE else pytest.mark.slow) for model_type in TYPES]


@pytest.mark.filterwarnings("ignore")  # transformers warns of its own deprecations
@pytest.mark.parametrize("model_type", SOME_OR_ALL)
def test_a_saved_model_is_the_live_one(model_type, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = tiny_model(tiny_config(model_type))
    model.save_pretrained(tmp_path)
    saved, alive = load(tmp_path), load(model)

    assert [weight.name for weight in saved.weights] == [weight.name for weight in alive.weights]
    for one, other in zip(saved.weights, alive.weights, strict=True):
        assert torch.equal(saved.matrix(one), alive.matrix(other)), one.name
        assert tuple(saved.matrix(one).shape) == (one.target.dim, one.source.dim)
        folded = saved.matrix(one, folded=True)
        torch.testing.assert_close(folded, alive.matrix(other, folded=True))
    assert not any("read as" in remark or "does not have such names" in remark for remark in saved.remarks)
    for tower in {weight.tower for weight in saved.weights}:
        numbers = {weight.layer for weight in saved.weights if weight.tower == tower} - {None}
        first = min(numbers)  # a layer that leads to a stage is before the first one along its stream
        assert numbers == set(range(first, first + len(numbers)))
        assert first == 0 or (tower, first) in {(f"stages.{stage}", 1) for stage in range(4)}


def responses(module):
    """What a module answers to basis vectors, without its bias; shape=[out, in, positions of the kernel]."""
    if isinstance(module, torch.nn.Linear | Conv1D):
        size = module.in_features if isinstance(module, torch.nn.Linear) else module.nx
        answers = [module(torch.eye(size)), module(torch.zeros(1, size))]
        if any(not torch.is_tensor(answer) for answer in answers):
            return None  # a router that also chooses
        return (answers[0] - answers[1]).T[..., None]
    if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d) and module.groups == 1:
        module.padding = (0,) * len(module.kernel_size)  # each patch alone, with one number in it
        size = module.in_channels * prod(module.kernel_size)
        patches = torch.eye(size).reshape(size, module.in_channels, *module.kernel_size)
        return (
            (module(patches) - module(torch.zeros_like(patches)))
            .reshape(size, -1)
            .T.unflatten(1, (module.in_channels, -1))
        )
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", SOME_OR_ALL)
def test_matrices_on_disk_are_what_the_modules_do(model_type, tmp_path):
    model = tiny_model(tiny_config(model_type))
    model.save_pretrained(tmp_path)
    saved, alive = load(tmp_path), load(model)
    modules = dict(model.named_modules())
    asked = set()
    with torch.no_grad():
        for one, other in zip(saved.weights, alive.weights, strict=True):
            response = responses(modules.get(other.tensor.removesuffix(".weight")))
            if response is None or one.head is not None or one.after is not None or one.split.rows is not None:
                continue  # which rows belong to which role is tested beside the heads
            if bare(one.role) == "embed" and other.tensor.startswith("lm_head"):
                response = response.transpose(0, 1)  # a table that is the unembedding too, found under its name
            if one.split.unfolded is Side.READ:
                response = response.transpose(1, 2).flatten(0, 1)
            torch.testing.assert_close(saved.matrix(one), response.flatten(1), atol=1e-5, rtol=1e-5)
            asked.add(one.role)
    assert asked


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", SOME_OR_ALL)
def test_heads_partition_their_projection(model_type):
    """Heads of a projection are its rows, or its columns, each once and in order."""
    network = load(tiny_model(tiny_config(model_type)))
    heads = {}
    for weight in network.weights:
        if weight.head is not None:
            heads.setdefault((weight.layer, weight.role), []).append(weight)
    whole = {(weight.layer, weight.role): weight for weight in network.weights if weight.head is None}
    for place, parts in heads.items():
        axis = 1 if ROLE_RECORDS[whole[place].record.name].side is Side.WRITE else 0
        joined = torch.cat([network.matrix(part) for part in parts], dim=axis)
        torch.testing.assert_close(joined, network.matrix(whole[place]))
        shared = {part.space(part.record.side.other).name for part in parts}
        assert len(shared) <= len(parts)


def test_the_table_has_the_types_that_people_use():
    assert set(TYPES) >= SAMPLE
    assert len(TYPES) >= 150
