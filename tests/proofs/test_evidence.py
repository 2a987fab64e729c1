"""How much a check shows: the weakest link of the arguments, and seeded numbers never more than instances."""

import pytest

from proofs.evidence import ORDER, Citation, Evidence, strongest, weakest
from proofs.given import DimensionFree, Exact, Exhaustive, Generic
from proofs.goal import Outcome, differ, equal
from proofs.statement import statement

ALL, GENERIC, CASES, INSTANCES = DimensionFree(), Generic(d=2), Exhaustive(d=2), Exact(d=2)
OF = {
    ALL: Evidence.ALL_DIMENSIONS,
    GENERIC: Evidence.GENERIC_SYMBOLS,
    CASES: Evidence.EVERY_CASE,
    INSTANCES: Evidence.INSTANCES,
}


def claim(*over, **options):
    @statement(*over, latex="", source="", mutants={}, **options)
    def one(_):
        """One is one."""
        yield equal("1 = 1", 1, 1)

    return one


def attached(to, *over, **options):
    @to.also(*over, **options)
    def further(_):
        """Show that two is two."""
        yield equal("2 = 2", 2, 2)

    return to


def test_order():
    assert weakest(OF.values()) is Evidence.INSTANCES
    assert strongest(OF.values()) is Evidence.ALL_DIMENSIONS
    assert weakest([*OF.values(), Evidence.CITED]) is Evidence.CITED
    assert set(ORDER) == set(Evidence)


@pytest.mark.parametrize("first", OF, ids=repr)
@pytest.mark.parametrize("second", OF, ids=repr)
def test_several_arguments_have_the_weakest_evidence(first, second):
    verdict = attached(claim(first), second).check()
    assert verdict.evidence is max(OF[first], OF[second], key=ORDER.index)
    assert [finding.evidence for finding in verdict.findings] == [OF[first], OF[second]]
    assert verdict.as_recorded


@pytest.mark.parametrize("given", OF, ids=repr)
def test_one_argument_has_the_strongest_of_what_it_was_run_on(given):
    assert claim(INSTANCES, given).check().evidence is OF[given]


def test_an_example_is_no_link():
    assert attached(claim(ALL), INSTANCES, example=True).check().evidence is Evidence.ALL_DIMENSIONS
    assert attached(claim(INSTANCES), ALL, example=True).check().evidence is Evidence.INSTANCES


def test_an_example_that_fails_refutes_all_the_same():
    one = claim(ALL)

    @one.also(INSTANCES, example=True)
    def wrong(_):
        yield equal("1 = 2", 1, 2)

    assert one.check().outcome is Outcome.REFUTED


def test_a_lemma_that_is_not_checked_is_the_weakest_link():
    verdict = claim(ALL, cites=[Citation("ones are ones", "Euclid, book 1")]).check()
    assert verdict.evidence is Evidence.CITED
    assert verdict.checked is Evidence.ALL_DIMENSIONS
    assert verdict.conclusion == "cited: Euclid, book 1; the rest proved for all dimensions"


@pytest.mark.parametrize("given", [ALL, GENERIC, CASES], ids=repr)
@pytest.mark.parametrize("sort", ["matrix", "symmetric", "orthogonal", "invertible", "diagonal", "projector"])
def test_seeded_numbers_show_instances_whatever_the_argument_is_given(given, sort):
    @statement(given, latex="", source="", mutants={})
    def one(_):
        """A matrix is itself."""
        square = INSTANCES.matrix("X", "d", "d") if sort == "matrix" else getattr(INSTANCES, sort)("X", "d")
        yield equal("X = X", square, square)

    assert one.evidence is OF[given]
    verdict = one.check()
    assert verdict.evidence is Evidence.INSTANCES
    assert not verdict.as_recorded
    assert verdict.conclusion == f"checked on instances, not {OF[given]}"


def test_numbers_drawn_before_do_not_count():
    INSTANCES.real("x")
    assert claim(ALL).check().evidence is Evidence.ALL_DIMENSIONS


def test_a_counterexample_refutes_on_one_instance():
    @statement(INSTANCES, latex="", source="", mutants={}, recorded=Outcome.REFUTED)
    def commute(given):
        """Matrices commute."""
        x, y = given.matrix("X", "d", "d"), given.matrix("Y", "d", "d")
        yield differ("X Y ≠ Y X", x * y, y * x)

    verdict = commute.check()
    assert verdict.evidence is verdict.statement.evidence is Evidence.COUNTEREXAMPLE
    assert verdict.conclusion == "refuted by a counterexample"
