import dataclasses
import re
from itertools import combinations

import pytest

from flaggeo.findings import graph_findings
from flaggeo.graph import structure
from tests.flaggeo.graph.builders import random_toy, toy


def planted(prefix="layers"):
    """A hub, bands of layers that read alike, heads that repeat each other, a path, alike neighbours."""
    layers, readers = 8, ("q", "v", "up")
    names = [f"{prefix}.{layer}.{role}.read" for layer in range(layers) for role in readers]
    strengths = {}
    for first, second in combinations(range(layers), 2):
        for role, side in (("q", "read"), ("v", "read"), ("up", "read"), ("o", "write"), ("down", "write")):
            strength = 0.6 * 2.0 ** -(second - first)
            strengths[(f"{prefix}.{first}.{role}.{side}", f"{prefix}.{second}.{role}.{side}")] = strength
    bands = [names[start : start + 6] for start in range(0, len(names), 6)]
    strengths |= {pair: 0.7 for band in bands for pair in combinations(band, 2)}
    strengths |= {(f"{prefix}.0.down.write", reader): 0.4 for reader in names[3:]}
    heads = [f"{prefix}.{layer}.q.heads.{layer % 2}.read" for layer in range(3)]
    strengths |= dict.fromkeys(combinations(heads, 2), 0.8)
    strengths |= {("embed.write", f"{prefix}.0.up.read"): 0.9, (f"{prefix}.7.down.write", "unembed.read"): 0.9}
    return toy(strengths, layers=layers, heads=2, prefix=prefix, noise=0.01)


@pytest.fixture(scope="module")
def found():
    return structure(*planted().tables, draws=10)


def by_kind(records):
    return {(record.kind, record.numbers.get("side")): record for record in records}


def test_what_was_planted_is_found(found):
    records = by_kind(graph_findings(found))
    hub = records["hub", "write"].numbers
    assert (hub["name"], hub["edges"]) == ("layers.0.down", 21)
    assert hub["strength"] > hub["largest_random"]
    assert records["communities", None].verdict == "present"
    heads = ["layers.0.q.heads.0.read", "layers.1.q.heads.1.read", "layers.2.q.heads.0.read"]
    assert records["redundant_groups", None].numbers["heads"] == heads
    path = records["strongest_path", None].numbers["subspaces"]
    assert path[:3] == ["embed.write", "layers.0.up.read", "layers.0.down.write"]
    assert records["similar_layers", None].numbers["pairs"]
    assert records["bottleneck", "read"].numbers["space"] == records["bottleneck", "write"].numbers["space"] == "stream"
    assert records["decay_length", "write"].numbers["roles"]
    assert len(records) == len(graph_findings(found)) <= 10


def test_every_number_stands_in_a_table(found):
    """Each number of a record is the value of some cell; each of a sentence such a value rounded, or part of a name."""
    cells, rounded = set(), set()
    for field in dataclasses.fields(found):
        numbers = getattr(found, field.name).select_dtypes("number").to_numpy(dtype="float64").ravel()
        cells |= set(numbers.tolist())
        for form in (".0f", ".1f", ".2f", ".2g", ".0%"):
            rounded |= {format(number, form) for number in numbers.tolist()}
    for finding in graph_findings(found):
        assert set(numbers_in(finding.numbers)) <= cells
        text = re.sub(r"(layers|heads)\.\d+|R²|1/e", "", finding.sentence)
        for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?%?", text):
            assert number in rounded, (number, finding.sentence)


def numbers_in(value):
    """All numbers in nested mappings and lists."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_hostile_names_stay_plain_text():
    hostile = "<script>alert('{0}')</script> \"%s\" {name} 層"
    hub = by_kind(graph_findings(structure(*planted(hostile).tables, draws=2)))["hub", "write"]
    assert hub.numbers["name"] == f"{hostile}.0.down"
    assert f"{hostile}.0.down" in hub.sentence


def test_random_graphs_have_no_communities():
    for seed in range(2):
        records = by_kind(graph_findings(structure(*random_toy(layers=5, share=0.15, seed=seed).tables, draws=8)))
        assert records["communities", None].verdict == "absent"
        assert ("redundant_groups", None) not in records


@pytest.mark.parametrize(
    ("overlap", "null", "matched", "verdict"),
    [
        (0.0625, 0.0625, True, "absent"),
        (0.5, 0.5, True, "explained_by_outlier_channels"),
        (0.5, 0.1, True, "present"),
        (0.5, 0.1, False, "undetermined"),
    ],
)
def test_a_bottleneck_is_claimed_only_beyond_the_largest_null(overlap, null, matched, verdict):
    network = toy({}, layers=4, matched=matched)
    pairs = network.pairs.assign(overlap=overlap, overlap_sign_flip_mean=null)
    records = graph_findings(structure(network.graph, network.weights, network.spaces, pairs, draws=0))
    bottlenecks = [record for record in records if record.kind == "bottleneck"]
    assert [record.verdict for record in bottlenecks] == [verdict] * 2
    assert {record.numbers["space"] for record in bottlenecks} == {"stream"}
    assert any(record.kind == "norm_matched_null" for record in records) is not matched


def test_a_bottleneck_that_the_mean_matched_null_alone_explains_is_one_of_a_common_mean():
    network = toy({}, layers=4, matched=True)
    pairs = network.pairs.assign(overlap=0.5, overlap_mean_matched_mean=0.5)
    records = graph_findings(structure(network.graph, network.weights, network.spaces, pairs, draws=0))
    verdicts = [record.verdict for record in records if record.kind == "bottleneck"]
    assert verdicts == ["explained_by_common_mean"] * 2
