import json

import pytest
import sympy

from proofs.given import DimensionFree, Exact, Generic
from proofs.goal import Outcome, at_least, differ, equal
from proofs.statement import Hypothesis, statement


def square_of_sum(*over, **options):
    """(X + Y)^2 = X^2 + Y^2 + c (X Y + Y X), with c = 1."""

    @statement(*over, latex="", source="", mutants={"c = 2": {"c": 2}}, **options)
    def claim(given, *, c=1):
        """The square of a sum has both cross terms.

        By expansion.
        """
        x, y = given.matrix("X", "d", "d"), given.matrix("Y", "d", "d")
        yield equal("square", (x + y) * (x + y), x * x + y * y + c * (x * y + y * x))

    return claim


def test_docstring_gives_sentence_and_remark():
    claim = square_of_sum(DimensionFree())
    assert (claim.name, claim.sentence, claim.remark) == (
        "claim",
        "The square of a sum has both cross terms.",
        "By expansion.",
    )


@pytest.mark.parametrize("given", [DimensionFree(), Generic(d=2), Exact(d=3)], ids=repr)
def test_one_argument_is_proved_by_every_kind(given):
    verdict = square_of_sum(given).check()
    assert verdict.outcome is Outcome.HOLDS
    assert verdict.kinds == (given.kind,)


def test_explicit_matrices_refute_a_mutant():
    assert square_of_sum(Generic(d=2)).check(c=2).outcome is Outcome.REFUTED
    assert square_of_sum(DimensionFree(), Exact(d=2)).check(c=2).outcome is Outcome.REFUTED


def test_words_left_over_do_not_refute():
    """Words of 1 x 1 matrices commute, so a difference of words may vanish at some size."""
    assert square_of_sum(DimensionFree()).check(c=2).outcome is Outcome.UNDECIDED


def test_a_standing_counterexample_refutes_the_statement():
    claim = square_of_sum(Exact(d=2), recorded=Outcome.REFUTED)
    assert claim.check().outcome is Outcome.REFUTED


def test_a_failing_counterexample_decides_nothing():
    @statement(Exact(d=2), latex="", source="", mutants={}, recorded=Outcome.REFUTED)
    def claim(given):
        """Matrices commute."""
        x = given.matrix("X", "d", "d")
        yield differ("X X ≠ X X", x * x, x * x)

    verdict = claim.check()
    assert verdict.outcome is Outcome.UNDECIDED
    assert not verdict.as_recorded


def test_no_goal_proves_nothing():
    @statement(Exact(d=2), latex="", source="", mutants={})
    def claim(_):
        """Empty."""
        yield from ()

    assert claim.check().outcome is Outcome.UNDECIDED


def test_one_refuted_proof_refutes_all():
    claim = square_of_sum(Generic(d=2))

    @claim.also(Exact(d=2))
    def wrong(_):
        yield at_least("0 ≥ 1", sympy.Integer(0), sympy.Integer(1))

    assert claim.check().outcome is Outcome.REFUTED


def test_a_change_must_name_a_keyword():
    with pytest.raises(TypeError, match="no argument of claim has the keyword 'd'"):
        square_of_sum(Generic(d=2)).check(d=3)


def test_an_essential_hypothesis_must_be_a_keyword():
    with pytest.raises(TypeError, match="'symmetric'"):
        square_of_sum(Generic(d=2)).without(Hypothesis("symmetric", "X is symmetric"))


def test_verdict_is_ready_for_json():
    claim = square_of_sum(DimensionFree(), Generic(d=2), hypotheses=[Hypothesis("h", "text", essential=False)])
    record = json.loads(json.dumps(claim.check().as_dict()))
    assert record["outcome"] == record["recorded"] == "holds"
    assert record["verdict"] == record["evidence"] == "proved for all dimensions"
    assert record["hypotheses"] == [{"name": "h", "text": "text", "essential": False}]
    assert [proof["kind"] for proof in record["proofs"]] == ["dimension-free symbols", "generic symbols"]
    assert record["proofs"][0]["steps"][0]["reduced"] == "0"
