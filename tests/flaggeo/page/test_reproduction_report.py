"""The page of a reproduction: the verdicts and numbers of its record, and nothing from outside."""

import json
import re
from math import inf, nan

import pytest

from flaggeo.claims import Case, Claim, Reference, Reproduction, Size
from flaggeo.page import claim_figures, render_reproduction, reproduction_report
from tests.conftest import browser_only
from tests.flaggeo.claims.builders import Planted

HOSTILE = "<img src=x onerror='window.hacked=1'>"
LOW, HIGH = Planted("low", "low", (0.1, 0.2)), Planted("high", f"{HOSTILE} {'long ' * 30}", (0.8, 0.9))
BROKEN = Planted("broken", "broken", (None, inf))
CLAIMS = (
    Claim("right", f"sentence {HOSTILE}", "source", (Case(LOW, "value", most=0.5),), proof="balance_law"),
    Claim("partly", "s", "s", (Case(LOW, "value", most=0.5), Case(HIGH, "value", most=0.5, stated=False))),
    Claim("wrong", "s", "s", (Case(HIGH, "value", most=0.5, paper="0.3", reference=Reference(0.7, 0.1)),)),
    Claim("undefined", "s", "s", (Case(BROKEN, "value", least=0),)),
    Claim("skipped", "s", "s", (), untested="no data for it"),
)
MEASURED = {"low": {"value": LOW.values}, "high": {"value": HIGH.values}, "broken": {"value": (nan, inf)}}
VERDICTS = {
    "right": "holds",
    "partly": "holds under conditions",
    "wrong": "not reproduced",
    "undefined": "not reproduced",
    "skipped": "not tested",
}


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    monkeypatch.setattr(reproduction_report, "PAPERS", {f"A paper {HOSTILE}": CLAIMS})


def reproduction(*claims):
    return Reproduction(Size.LAPTOP, MEASURED, claims or CLAIMS, {"torch": "1"})


def section(html, name):
    return html.split(f'id="claim-{name}"', 1)[1].split("</article>")[0]


def charts(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html)[1])["charts"]


@pytest.mark.parametrize("name", VERDICTS)
def test_every_claim_has_its_verdict_and_its_cases(name):
    html = render_reproduction(reproduction())
    (badge,) = re.findall(r'<span class="badge \w+">(.*?)</span>', section(html, name))
    assert badge == VERDICTS[name]
    (claim,) = [one for one in CLAIMS if one.name == name]
    assert section(html, name).count('<td class="text">yes</td>') == sum(case.experiment is LOW for case in claim.cases)
    assert ("no data for it" in section(html, name)) is (name == "skipped")


def test_the_charts_have_every_seed_inside_or_outside_the_range():
    found = charts(render_reproduction(reproduction()))
    assert set(found) == set(VERDICTS) - {"skipped"}
    (panel,) = found["partly"]["concat"]
    assert [(row["case"], row["values"], row["seeds"]) for row in panel["data"]["values"]] == [
        ("holds", [0.1, 0.2], [1, 2]),
        ("fails", [0.8, 0.9], [1, 2]),
    ]
    low, high = panel["encoding"]["x"]["scale"]["domain"]
    assert (low < 0.1, high > 0.9) == (True, True)
    assert {(row["low"], row["high"]) for row in panel["data"]["values"]} == {(low, 0.5)}
    lines = len(panel["layer"]) - 3
    told = [[row[f"line_{line}"] for line in reversed(range(lines))] for row in panel["data"]["values"]]
    assert [" ".join(of_case).split() for of_case in told] == [["low"], f"{HIGH.setting} (beyond the source)".split()]
    assert found["wrong"]["concat"][0]["data"]["values"][0]["earlier"] == 0.7
    assert found["undefined"]["concat"][0]["data"]["values"][0]["values"] == [None, None]


def test_another_outcome_is_another_verdict():
    turned = Reproduction(Size.LAPTOP, MEASURED | {"low": {"value": (0.1, 0.6)}}, CLAIMS, {})
    assert ">not reproduced</span>" in section(render_reproduction(turned), "right")


def test_nothing_points_to_a_network_and_words_are_escaped():
    html = render_reproduction(reproduction())
    outside = html.split("<script>")[0] + html.rsplit("</script>", 1)[1]
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", outside)
    assert "default-src 'none'" in html
    assert HOSTILE not in html
    assert "&lt;img src=x" in html


def test_figures_are_those_of_the_claims_that_were_tested():
    figures = claim_figures(reproduction(CLAIMS[0], CLAIMS[4]))
    assert list(figures) == ["right"]
    assert figures["right"].startswith(b"<svg")
    assert b"<img" not in claim_figures(reproduction(CLAIMS[2]))["wrong"]


@browser_only
@pytest.mark.browser
def test_the_page_fits_and_draws_every_chart(open_page, tmp_path):
    (tmp_path / "page.html").write_text(render_reproduction(reproduction()))
    page = open_page(tmp_path / "page.html")
    page.locator("body[data-ready=yes]").wait_for()
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#partly-chart svg path[aria-roledescription='point']").count() == 4
    assert page.complaints == []
    page.close()
