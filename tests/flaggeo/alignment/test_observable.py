"""What is known of a number before it is measured: its columns, its links to statements, its symmetry."""

from dataclasses import dataclass, replace
from math import inf

import pytest
import torch

import proofs
from flaggeo.alignment import Column, Invariance, Null, Observable, observables
from flaggeo.network import Symmetry

STATEMENTS = {statement.name: statement for statement in proofs.statements()}
LINKS = sorted(
    {one.invariance.statement for one in observables()}
    | {null.statement for one in observables() for null in one.nulls if null.statement}
)


@pytest.mark.parametrize("name", LINKS)
def test_a_link_leads_to_a_statement_that_holds(name):
    """The tests of `proofs` check every statement against its record, and its mutants."""
    assert STATEMENTS[name].recorded is proofs.Outcome.HOLDS
    assert STATEMENTS[name].mutants


@pytest.mark.parametrize("observable", observables(), ids=lambda observable: f"{observable.table}-{observable.column}")
def test_its_record_is_whole(observable):
    least, most = observable.range
    assert least < most
    assert observable.aligned in (None, least, most)
    assert all((observable.title, observable.formula, observable.reading, observable.misuse, observable.null.text))
    assert observable.null.name == "null"
    names = [null.name for null in observable.nulls]
    assert len(set(names)) == len(names)


@dataclass(frozen=True)
class Pair:
    value: float


OBSERVABLE = Observable(
    title="a number",
    table="numbers",
    column="number",
    pair=Pair,
    measure=lambda pair: torch.tensor(pair.value),
    formula="x",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(Symmetry.ORTHOGONAL, "rotations", "haar_overlap_moments"),
    null=Null(text="", law=lambda _: (0.5, 0.1)),
    tolerance=1e-5,
    reading="",
    misuse="",
)
SIGN_FLIP = Null(text="", name="sign_flip", law=lambda _: (0.6, None), has_sd=False)


def with_p_value(null):
    return replace(null, p_value=lambda _: (0.2, 0.1))


@pytest.mark.parametrize(
    ("changes", "derived"),
    [
        ({}, ["null_mean", "null_sd", "effect_size"]),
        ({"null": replace(OBSERVABLE.null, moment="rms", has_sd=False)}, ["null_rms", "effect_size"]),
        ({"dtype": "Int64"}, ["null_mean", "null_sd"]),
        ({"aligned": None}, ["null_mean", "null_sd"]),
        ({"aligned": inf}, ["null_mean", "null_sd"]),
        ({"further_nulls": (SIGN_FLIP,)}, ["null_mean", "null_sd", "sign_flip_mean", "effect_size", "excess"]),
        (
            {"null": with_p_value(OBSERVABLE.null)},
            ["null_mean", "null_sd", "p_value", "effect_size", "z", "p_value_floor", "q_value"],
        ),
        (
            {"null": with_p_value(OBSERVABLE.null), "further_nulls": (with_p_value(SIGN_FLIP),)},
            [
                *("null_mean", "null_sd", "p_value", "sign_flip_mean", "sign_flip_p_value"),
                *("effect_size", "excess", "z", "p_value_floor", "q_value"),
            ],
        ),
    ],
)
def test_columns_follow_from_the_nulls_and_from_the_aligned_end(changes, derived):
    observable = replace(OBSERVABLE, **changes)
    assert [column.name for column in observable.columns] == ["number", *(f"number_{name}" for name in derived)]
    assert observable.columns[0].dtype == observable.dtype
    assert {column.dtype for column in observable.columns[1:]} == {"float64"}
    expected = [f"number_{name}" for name in derived if name.endswith("p_value")]
    assert observable.p_value_columns == expected


def test_companions_stand_last():
    place = Column("place", "Int64", "where it is")
    observable = replace(OBSERVABLE, companions=((place, lambda _: torch.tensor(1)),))
    assert observable.columns[-1] is place


def test_a_number_is_basis_independent_under_every_subgroup_of_its_group():
    independent = {symmetry for symmetry in Symmetry if OBSERVABLE.is_basis_independent(symmetry)}
    assert independent == {symmetry for symmetry in Symmetry if Symmetry.ORTHOGONAL.contains(symmetry)}
    assert Symmetry.GENERAL_LINEAR not in independent
