from pathlib import Path

import pytest

import proofs
from proofs.page import claims_page, proofs_page

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("name", "page"), [("proofs.md", proofs_page), ("claims.md", claims_page)])
def test_committed_page_is_up_to_date(name, page):
    committed = (DOCS / name).read_text(encoding="utf-8")
    assert committed == page(), f"docs/{name} is stale: run `python -m proofs.page docs`"


def test_every_statement_is_typeset():
    page = proofs_page()
    for statement in proofs.statements():
        assert f"### `{statement.name}`" in page
        assert statement.latex in page


def test_every_wording_is_listed_with_its_statement():
    page = claims_page()
    for statement in proofs.statements():
        if statement.wording:
            assert f"### {statement.wording.point}, [`{statement.name}`]" in page
