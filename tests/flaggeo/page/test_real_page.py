"""The page of a real model of which everything was measured, at three widths, light and dark."""

from itertools import combinations

import pytest
from axe_playwright_python.sync_playwright import Axe

from flaggeo import analyze
from tests.conftest import browser_only

pytestmark = [pytest.mark.slow, pytest.mark.browser, browser_only]

BOXES = """() => [...document.querySelectorAll(".card")].map((card) => {
    const {left, right, top, bottom} = card.getBoundingClientRect();
    return {left, right, top, bottom, inside: card.scrollWidth <= card.clientWidth};
})"""


@pytest.fixture(scope="module")
def report(smollm2_file, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(analyze(smollm2_file, measure="all").to_html())
    return file


def test_the_page_leads_with_what_was_found_and_is_short(report, open_page):
    page = open_page(report)
    page.locator("body[data-ready]").wait_for()
    assert page.viewport_size["width"] == 1280
    assert page.locator(".card svg").first.bounding_box()["y"] < 700
    assert page.locator("#graph").bounding_box()["y"] < 1100
    assert page.evaluate("document.documentElement.scrollHeight") < 5000
    assert report.stat().st_size < 3_000_000
    page.close()


@pytest.mark.parametrize("width", [1440, 768, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_smollm2_fits_and_can_be_read(report, open_page, width, scheme):
    page = open_page(report)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.reload()  # charts have the width of the page that opens
    page.locator("body[data-ready]").wait_for()
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cards = page.evaluate(BOXES)
    assert len(cards) > 2
    assert all(card["inside"] and card["left"] >= 0 and card["right"] <= width for card in cards)
    for one, other in combinations(cards, 2):
        across = min(one["right"], other["right"]) - max(one["left"], other["left"])
        down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
        assert across <= 0 or down <= 0
    graph = page.locator("#graph-figure").evaluate("figure => figure.scrollWidth - figure.clientWidth")
    assert (graph > 0) == (width == 400)
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []
    assert page.complaints == []
    page.close()
