import json
import re
from dataclasses import replace

import pytest
import yaml

from flaggeo import compare
from flaggeo.comparison.recipes import to_mergekit, to_peft
from tests.flaggeo.comparison.planted_change import RANK, TOUCHED, base, tuned

OPTIONS = {"rank": 2, "measure": "continuity", "roles": ["o"]}


@pytest.fixture(scope="module")
def comparison():
    changed = tuned() | {TOUCHED[-1]: tuned(TOUCHED[-1:], rank=2)[TOUCHED[-1]]}
    changed["model.embed_tokens.weight"] = 2 * changed["model.embed_tokens.weight"]  # of full rank
    found = compare(base(), changed, **OPTIONS)
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


def test_two_fine_tunings_are_two_models():
    found = compare(base(), tuned(TOUCHED[:1]), other=tuned(TOUCHED[1:2]), **OPTIONS)
    first, second = yaml.safe_load(to_mergekit(found))["models"]
    for name in TOUCHED[:2]:
        assert (weight_of(first, name), weight_of(second, name)) == ((1, 0) if name == TOUCHED[0] else (0, 1))
    with pytest.raises(ValueError, match="expected one fine-tuning to write the ranks of, found two"):
        to_peft(found)


def test_nothing_is_written_where_nothing_is_known():
    same = compare(base(), base(), **OPTIONS)
    for write in (to_mergekit, to_peft):
        with pytest.raises(ValueError, match="expected a change of the checkpoint to write, found none"):
            write(same)
    full = compare(base(), {name: 2 * tensor for name, tensor in base().items()}, **OPTIONS)
    with pytest.raises(ValueError, match="expected a change of low rank, found none"):
        to_peft(full)
