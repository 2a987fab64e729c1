import dataclasses
import re
from itertools import combinations

import pytest

from flaggeo.findings import sentences
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


def test_what_was_planted_is_said(found):
    said = " ".join(sentences(found))
    assert "layers.0.down writes meets later readings the most: 21 edges" in said
    assert "communities" in said
    assert "no communities" not in said
    assert "layers.0.q.heads.0.read, layers.1.q.heads.1.read, layers.2.q.heads.0.read" in said
    assert "embed.write → layers.0.up.read → layers.0.down.write" in said
    assert "geometry alone" in said
    assert "dimensions of the stream" in said
    assert "1/e" in said
    assert len(sentences(found)) <= 9


def test_every_number_stands_in_a_table(found):
    """Each number of a sentence is the rounded value of some cell, or part of a name."""
    cells = set()
    for field in dataclasses.fields(found):
        numbers = getattr(found, field.name).select_dtypes("number").to_numpy(dtype="float64").ravel()
        for form in (".0f", ".1f", ".2f", ".2g", ".0%"):
            cells |= {format(number, form) for number in numbers.tolist()}
    for sentence in sentences(found):
        text = re.sub(r"(layers|heads)\.\d+|R²|1/e|0 is chance|1 the same", "", sentence)
        for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?%?", text):
            assert number in cells, (number, sentence)


def test_hostile_names_stay_plain_text():
    hostile = "<script>alert('{0}')</script> \"%s\" {name} 層"
    said = " ".join(sentences(structure(*planted(hostile).tables, draws=2)))
    assert f"{hostile}.0.down writes meets later readings the most" in said


def test_random_graphs_are_said_to_have_no_communities():
    said = [sentences(structure(*random_toy(layers=5, share=0.15, seed=seed).tables, draws=8)) for seed in range(2)]
    assert all(any("no communities beyond chance" in sentence for sentence in each) for each in said)
    assert all(not any("repeat each other" in sentence for sentence in each) for each in said)


@pytest.mark.parametrize(
    ("overlap", "null", "matched", "verdict"),
    [
        (0.0625, 0.0625, True, "no bottleneck"),
        (0.5, 0.5, True, "loud channels account for it"),
        (0.5, 0.1, True, "a bottleneck that loud channels do not account for"),
        (0.5, 0.1, False, "neither keeps the norms"),
    ],
)
def test_a_bottleneck_is_claimed_only_beyond_the_largest_null(overlap, null, matched, verdict):
    network = toy({}, layers=4, matched=matched)
    pairs = network.pairs.assign(overlap=overlap, sign_flip_mean=null)
    said = sentences(structure(network.graph, network.weights, network.spaces, pairs, draws=0))
    (bottleneck,) = [sentence for sentence in said if "dimensions of the stream" in sentence]
    assert bottleneck.count(verdict) == 2
    assert any("no weights of the same row and column norms were drawn" in each for each in said) is not matched
