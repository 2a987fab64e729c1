"""Every measured number links to the statements that back it, and the links lead somewhere."""

import pytest

import proofs
from flaggeo.alignment import (
    CONTINUITY_COLUMNS,
    HEAD_COLUMNS,
    INTERFACE_COLUMNS,
    OBSERVABLES,
    PAIR_COLUMNS,
    PATH_VARIANCE_COLUMNS,
)

STATEMENTS = {statement.name: statement for statement in proofs.statements()}


LINKS = sorted({name for o in OBSERVABLES for name in (o.invariance_statement, o.null_statement) if name is not None})


@pytest.mark.parametrize("name", LINKS)
def test_a_link_leads_to_a_statement_that_is_proved(name):
    assert proofs.check(name).outcome == "proved"
    assert STATEMENTS[name].mutants


COLUMNS = {
    "continuity": CONTINUITY_COLUMNS,
    "pairs": PAIR_COLUMNS,
    "path_variance": PATH_VARIANCE_COLUMNS,
    "interfaces": INTERFACE_COLUMNS,
    "heads": HEAD_COLUMNS,
}


@pytest.mark.parametrize("observable", OBSERVABLES, ids=lambda observable: observable.name)
def test_its_columns_exist(observable):
    assert {observable.column, *observable.derived} <= set(COLUMNS[observable.table])


def test_no_column_has_two_observables():
    columns = [
        (observable.table, column) for observable in OBSERVABLES for column in (observable.column, *observable.derived)
    ]
    assert len(columns) == len(set(columns))
