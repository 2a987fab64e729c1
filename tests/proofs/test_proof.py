import pytest

from proofs.given import Exact
from proofs.goal import Outcome, equal
from proofs.proof import Counterexample, Proof, parameters


def argument(_, *, left=1):
    """Left is one."""
    yield equal("left = 1", left, 1)


def test_run_passes_on_only_the_keywords_that_an_argument_has():
    assert parameters(argument) == ("left",)
    proof = Proof(argument, Exact(d=2))
    assert proof.run(right=3).goals is Outcome.HOLDS
    assert proof.run(left=2).goals is Outcome.REFUTED


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [(Proof, [Outcome.HOLDS, Outcome.REFUTED]), (Counterexample, [Outcome.REFUTED, Outcome.UNDECIDED])],
)
def test_what_the_goals_say_about_the_statement(evidence, expected):
    found = [evidence(argument, Exact(d=2)).run(left=left) for left in (1, 2)]
    assert [finding.proof.verdict(finding.goals) for finding in found] == expected


def test_finding_as_dict():
    record = Proof(argument, Exact(d=2)).run(left=2).as_dict()
    assert (record["argument"], record["verdict"], record["dimensions"]) == ("Left is one.", "refuted", "d = 2")
    assert record["steps"][0]["reduced"] == "1"
