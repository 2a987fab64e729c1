from pathlib import Path

from flaggeo.alignment import OBSERVABLES
from flaggeo.alignment.page import TABLES, observables_page

DOCS = Path(__file__).parents[3] / "docs"


def test_the_committed_page_is_up_to_date():
    committed = (DOCS / "observables.md").read_text(encoding="utf-8")
    assert committed == observables_page(), "docs/observables.md is stale: run `python -m flaggeo.alignment.page docs`"


def test_every_observable_has_its_section_with_everything_that_is_known_of_it():
    page = observables_page().replace("\\", "")
    assert {observable.table for observable in OBSERVABLES} == set(TABLES)
    for observable in OBSERVABLES:
        of_table = page.split(f"(`{observable.table}`)", 1)[1].split("\n## ")[0]
        section = of_table.split(f"### `{observable.column}`", 1)[1].split("\n### ")[0]
        for words in (observable.formula.replace("\\", ""), observable.null, observable.invariance, observable.reading):
            assert words in section
        assert observable.misuse in section
