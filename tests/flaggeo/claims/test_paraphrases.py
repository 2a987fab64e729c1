"""What the papers claim, point by point: the page and the records have the same numbers, and each leads somewhere."""

import re
from pathlib import Path

import pytest

import proofs
from docs.build import paper_claims
from docs.build.paper_claims import paper_claims_page
from flaggeo.claims import Reproduction, Verdict
from flaggeo.claims.catalogue import PAPERS, every_claim
from flaggeo.claims.paraphrases import PARAPHRASES

POINTS = [point for of_paper in PARAPHRASES.values() for point in of_paper]
PAGE = (Path(__file__).parents[3] / "docs" / "paper-claims.md").read_text(encoding="utf-8")
# Of the abstract and the introduction of arXiv:2605.09861, and of the mechanism of arXiv:2605.04971.
NUMBERS = list(range(1, 27))


def on_the_page(page=PAGE):
    """By number: the text below its heading."""
    parts = re.split(r"^### (\d+)\. .*$", page, flags=re.MULTILINE)
    return dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))


def test_page_and_records_have_every_number_once():
    assert [point.number for point in POINTS] == NUMBERS
    assert list(on_the_page()) == NUMBERS
    assert list(PARAPHRASES) == [paper for paper in PAPERS if paper.startswith("arXiv")]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: str(point.number))
def test_every_point_leads_to_records_and_statements(point):
    claims = {claim.name for claim in every_claim()}
    statements = {statement.name for statement in proofs.statements()}
    assert point.claims
    assert set(point.claims) <= claims
    assert set(point.proofs) <= statements
    linked = re.findall(r"^- \[`(\w+)`\]\(#(claim|statement)-([\w-]+)\), ", on_the_page()[point.number], re.MULTILINE)
    assert [name for name, _, _ in linked] == [*point.claims, *point.proofs]
    assert all(anchor == name.replace("_", "-") for name, _, anchor in linked)


def test_what_is_not_tested_says_why():
    for claim in every_claim():
        assert bool(claim.cases) is not bool(claim.untested)


def test_another_outcome_changes_the_page(monkeypatch):
    real = Reproduction.load(paper_claims.RESULTS)
    name = "containment"
    (case, *_) = next(claim.cases for claim in real.claims if claim.name == name)
    wrong = {case.experiment.name: dict.fromkeys(case.experiment.numbers, (9.0,) * 3)}
    turned = Reproduction(real.size, {**real.measured, **wrong}, real.claims, real.versions)
    monkeypatch.setattr(paper_claims.Reproduction, "load", lambda _: turned)
    link = f"- [`{name}`](#claim-{name}), **"
    assert f"{link}{Verdict.HOLDS}**" in on_the_page()[3]
    assert f"{link}{Verdict.NOT_REPRODUCED}**" in on_the_page(paper_claims_page())[3]
