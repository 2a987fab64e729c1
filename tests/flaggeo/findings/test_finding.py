import json
import re

import numpy as np
import pandas as pd
import pytest

from flaggeo import analyze, compare, load, trace
from flaggeo.findings import Finding, comparison_findings, findings, graph_findings, trace_findings
from flaggeo.findings.sentences import SENTENCES
from tests.builders import CONFIG, related_llama, tiny_llama


def made():
    """Every list of findings, of networks that have much to say."""
    analysis = analyze(load(related_llama(), config=CONFIG), rank=2, measure="all", draws=2)
    yield findings(analysis)
    yield graph_findings(analysis.structure)
    yield comparison_findings(compare(tiny_llama(), related_llama(), rank=2))
    yield trace_findings(trace([tiny_llama(), related_llama(), related_llama(seed=1)], rank=2))


@pytest.fixture(scope="module")
def every():
    return [finding for found in made() for finding in found]


def test_a_record_is_plain_json_and_rebuilds_its_sentence(every):
    for finding in every:
        record = json.loads(json.dumps(finding.as_dict(), allow_nan=False))
        assert list(record) == ["kind", "verdict", "numbers", "place", "sentence"]
        read = Finding(*(record[name] for name in ("kind", "verdict", "numbers", "place")))
        assert read == finding
        assert read.sentence == record["sentence"] == str(finding)


def test_sentences_are_whole_and_name_no_missing_number_and_no_option(every):
    for finding in every:
        assert finding.sentence[0].isalnum()
        assert finding.sentence.endswith(".")
        assert not {"nan", "None", "<NA>"} & set(finding.sentence.replace(",", " ").replace(".", " ").split())
        assert " --" not in finding.sentence


def test_every_wording_says_which_verdicts_it_has(every):
    for finding in every:
        assert finding.verdict in SENTENCES[finding.kind].__doc__
    assert all(function.__doc__.startswith("Verdict") for function in SENTENCES.values())


def test_numbers_of_libraries_become_plain_ones():
    given = {
        "mean": np.float32(0.5),
        "count": np.int64(3),
        "missing": pd.NA,
        "undefined": np.nan,
        "rows": [{"a": True}],
    }
    plain = Finding("movement", "absent", given, "drift").numbers
    assert plain == {"mean": 0.5, "count": 3, "missing": None, "undefined": None, "rows": [{"a": True}]}
    assert [type(value) for value in plain.values()] == [float, int, type(None), type(None), list]


def test_where_random_graphs_give_nothing_no_zeros_are_compared():
    nothing = {"random": 0.0, "random_sd": 0.0, "z": float("nan")}
    groups = {"pairs": nothing | {"value": 3}, "larger_groups": nothing | {"value": 0}, "heads": ["a", "b"]}
    path = {"subspaces": ["embed.write", "unembed.read"], "strength": 1e-5, "tied": False}
    for finding in (
        Finding("redundant_groups", "present", groups | {"least_excess": 0.6}, "repeats"),
        Finding("strongest_path", "undetermined", path | {"random": 0.0, "random_sd": 0.0}, "signal-paths"),
    ):
        assert not re.search(r"(?<![.\d])0(\.0*)?(?![.\d])", finding.sentence)
