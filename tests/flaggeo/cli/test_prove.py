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
    assert "dimension-free; generic symbols" in row
    assert "proved" in row
    assert "1 checked" in result.output
    assert "all verdicts as recorded" in result.output


def test_verbose_shows_hypotheses_and_algebra():
    output = run("image_row_intersection", "--verbose").output
    assert "said: Subspace intersection dimension is the unique" in output
    output = run("balance_law", "--verbose").output
    assert "assumes (essential): both layers carry the same ridge" in output
    assert "Δ' = -2 λ Δ: proved" in output
    assert "-> 0" in output


def test_json_has_everything():
    (record,) = json.loads(run("angle_bound", "--format", "json").output)
    assert record["name"] == "angle_bound"
    assert record["verdict"] == record["recorded"] == "proved"
    assert any(hypothesis["essential"] for hypothesis in record["hypotheses"])
    assert {proof["kind"] for proof in record["proofs"]} >= {"dimension-free", "generic symbols"}


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
    assert "proved, not refuted" in result.output
    assert "not as recorded: balance_law" in result.output


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
