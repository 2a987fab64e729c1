import json
import re
from dataclasses import replace

import pandas as pd
import pytest
import yaml

from flaggeo import compare
from flaggeo.checkpoint import CheckpointError
from flaggeo.comparison.recipes import to_mergekit, to_peft, without_rank
from tests.flaggeo.comparison.planted_change import RANK, TOUCHED, base, tuned


@pytest.fixture(scope="module")
def comparison():
    changed = tuned() | {TOUCHED[-1]: tuned(TOUCHED[-1:], rank=2)[TOUCHED[-1]]}
    changed["model.embed_tokens.weight"] = 2 * changed["model.embed_tokens.weight"]  # of full rank
    found = compare(base(), changed, rank=2, measure="continuity", roles=["o"], layers=[0])
    return replace(found, provenance=found.provenance | {"a": "org/base: 1", "b": "org/tuned"})


def test_the_ranks_are_those_that_peft_looks_up(comparison):
    settings = json.loads(to_peft(comparison))
    modules = {name.removesuffix(".weight"): RANK for name in TOUCHED} | {TOUCHED[-1].removesuffix(".weight"): 2}
    assert settings == {"r": RANK, "target_modules": sorted(modules, key=order), "rank_pattern": modules}
    # peft takes the first key that matches the end of a module's name.
    for name in base():
        module = name.removesuffix(".weight")
        found = [rank for key, rank in settings["rank_pattern"].items() if re.match(rf"(.*\.)?({key})$", module)]
        assert found == ([modules[module]] if module in modules else [])


def test_changes_without_a_rank_are_counted(comparison):
    assert "1 of the tensors, the first 'model.embed_tokens.weight' (full)" in without_rank(comparison)
    assert not without_rank(replace(comparison, tensors=comparison.tensors.iloc[1:]))


def order(module):
    return list(base()).index(f"{module}.weight")


def weight_of(model, tensor):
    """As mergekit evaluates a parameter: the first condition whose filter is part of the name, or that has none."""
    conditions = model["parameters"]["weight"]
    return next(one["value"] for one in conditions if "filter" not in one or one["filter"] in tensor)


def test_a_merge_adds_what_changed_and_nothing_else(comparison):
    configuration = yaml.safe_load(to_mergekit(comparison))
    assert (configuration["merge_method"], configuration["base_model"]) == ("task_arithmetic", "org/base: 1")
    (model,) = configuration["models"]
    assert model["model"] == "org/tuned"
    weights = {name: weight_of(model, name) for name in base()}
    assert {name for name, weight in weights.items() if weight == 1} == {*TOUCHED, "model.embed_tokens.weight"}
    assert set(weights.values()) == {0, 1}


def test_two_fine_tunings_are_two_models(comparison):
    rows = comparison.tensors
    other = rows.assign(version="c", change=rows["change"].where(rows["tensor"] == TOUCHED[1], "unchanged"))
    provenance = comparison.provenance | {"c": "org/other"}
    found = replace(comparison, tensors=pd.concat([rows, other]), provenance=provenance)
    first, second = yaml.safe_load(to_mergekit(found))["models"]
    assert [first["model"], second["model"]] == ["org/tuned", "org/other"]
    assert [(weight_of(first, name), weight_of(second, name)) for name in TOUCHED[:2]] == [(1, 0), (1, 1)]
    with pytest.raises(ValueError, match="expected one fine-tuning to write the ranks of, found two"):
        to_peft(found)


@pytest.mark.parametrize(
    ("write", "columns", "provenance", "words"),
    [
        (to_mergekit, {"change": "unchanged"}, {}, "expected a change of the checkpoint to write, found none"),
        (to_peft, {"change": "within_precision"}, {}, "expected a change of the checkpoint to write, found none"),
        (to_peft, {"change": "full"}, {}, "expected a change of low rank, found none"),
        *(
            (to_mergekit, {"change": change}, {}, rf"found others: 44 .* 'model.embed_.* \({change}\)")
            for change in ("reshaped", "added", "removed", "unknown")
        ),
        (
            to_mergekit,
            {},
            {"adapters": ["b"]},
            "org/tuned: expected a merged checkpoint .*, found a LoRA adapter",
        ),
        (
            to_peft,
            {"tensor": "blk.0.attn_q.weight"},
            {},
            "expected the tensor names of Hugging Face, found those of GGUF",
        ),
    ],
)
def test_what_those_tools_cannot_take_is_not_written(comparison, write, columns, provenance, words):
    tensors = comparison.tensors.assign(**columns)
    with pytest.raises(ValueError, match=words):
        write(replace(comparison, tensors=tensors, provenance=comparison.provenance | provenance))


def test_a_merge_without_the_tensors_that_failed_is_not_written(comparison):
    with pytest.raises(CheckpointError, match="expected finite numbers"):
        to_mergekit(replace(comparison, provenance=comparison.provenance | {"failed": ["q: expected finite numbers"]}))
