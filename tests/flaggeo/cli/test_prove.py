import dataclasses
import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import proofs
from flaggeo.cli.prove import prove
from proofs import Outcome
from proofs.catalogue import topic_statements

app = typer.Typer()
app.command()(prove)


def run(*arguments):
    return CliRunner().invoke(app, arguments)


def test_one_statement_as_a_table():
    result = run("balance_law")
    assert result.exit_code == 0
    (row,) = [line for line in result.output.splitlines() if line.startswith("│ balance_law")]
    assert "proved for all dimensions" in row
    assert "1 checked" in result.output
    assert "all verdicts as recorded" in result.output
    assert result.output.splitlines()[-1].split(maxsplit=1) == ["1", "proved for all dimensions"]


def test_it_ends_with_a_count_by_kind_of_evidence(monkeypatch):
    every = topic_statements("flags") + topic_statements("gram_commutator")
    monkeypatch.setattr(proofs, "statements", lambda: every)
    lines = [line.split(maxsplit=1) for line in run().output.splitlines()]
    assert lines[-5:] == [
        ["2", "proved for all dimensions"],
        ["2", "proved for generic symbols at these sizes"],
        ["1", "proved for every case at these sizes"],
        ["3", "checked on instances"],
        ["2", "refuted by a counterexample"],
    ]


def test_what_is_cited_is_named():
    output = run("chain_multiplicities", "--verbose").output
    assert "verdict: cited: P. Gabriel" in output
    assert "cites, without a check: every chain of maps is a sum of intervals" in output
    assert "example: Show that the multiplicities planted" in output


def test_verbose_shows_hypotheses_and_algebra():
    output = run("image_row_intersection", "--verbose").output
    assert "said: Subspace intersection dimension is the unique" in output
    output = run("balance_law", "--verbose").output
    assert "assumes (essential): both layers carry the same ridge" in output
    assert "Δ' = -2 λ Δ: holds" in output
    assert "dimension-free symbols, all: holds, proved for all dimensions" in output
    assert "-> 0" in output


def test_json_has_everything():
    (record,) = json.loads(run("angle_bound", "--format", "json").output)
    assert record["name"] == "angle_bound"
    assert record["outcome"] == record["recorded"] == "holds"
    assert record["verdict"] == record["evidence"] == "proved for all dimensions"
    assert any(hypothesis["essential"] for hypothesis in record["hypotheses"])
    shown = {(proof["kind"], proof["evidence"], proof["example"]) for proof in record["proofs"]}
    assert ("dimension-free symbols", "proved for all dimensions", False) in shown
    assert ("generic symbols", "proved for generic symbols at these sizes", True) in shown


def test_latex():
    output = run("projector_commutator", "--format", "latex").output
    assert r"\paragraph{projector\_commutator}" in output
    assert proofs.check("projector_commutator").statement.latex in output


def test_a_refuted_wording_is_a_success_when_so_recorded():
    result = run("commuting_means_aligned")
    assert result.exit_code == 0
    assert "refuted" in result.output


def test_a_verdict_that_is_not_the_recorded_one_exits_1(monkeypatch):
    verdict = proofs.check("balance_law")
    wrong = dataclasses.replace(verdict, statement=dataclasses.replace(verdict.statement, recorded=Outcome.REFUTED))
    monkeypatch.setattr(proofs, "check", lambda *_: wrong)
    result = run("balance_law")
    assert result.exit_code == 1
    assert "holds, not refuted by a counterexample" in result.output
    assert "not as recorded: balance_law" in result.output
    assert result.output.splitlines()[-1].split(maxsplit=1) == ["1", "not as recorded"]


def test_unknown_statement_is_a_usage_error():
    result = run("balance_lav")
    assert result.exit_code == 2
    unboxed = " ".join(result.output.replace("│", " ").split())
    assert "no statement is named 'balance_lav'; did you mean balance_law" in unboxed


def test_without_a_name_every_statement_is_checked(monkeypatch):
    every = topic_statements("orbits")  # tests/proofs checks them all
    monkeypatch.setattr(proofs, "statements", lambda: every)
    result = run()
    assert result.exit_code == 0
    assert f"{len(every)} checked" in result.output
    assert all(statement.name in result.output for statement in every)


@pytest.mark.parametrize("module", ["proofs", "rich.table", "sympy"])
def test_the_module_itself_loads_no_heavy_library(module):
    script = f"import sys, flaggeo.cli.prove; print({module!r} in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"
