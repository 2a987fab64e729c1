"""Formulas of the site are there without a network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import proofs
from docs.mathml import mathml
from tests.conftest import browser_only

ROOT = Path(__file__).parents[2]
PAGE = r"""
# Formulas

A mean is $\frac{1}{n}$ here, and $$\Bigl\lVert x \Bigr\rVert_F^2 = \sum_i x_i^2$$ a norm.
"""


def build(source, target):
    # The pictures of the gallery are of whole models, and `make docs` draws them.
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-D", "suppress_warnings=image.not_readable"]
    command = [sys.executable, "-m", "sphinx", *options, str(source), str(target)]
    subprocess.run(command, check=True, capture_output=True, text=True)


def test_every_statement_has_its_signs():
    for statement in proofs.statements():
        assert "<merror" not in mathml(statement.latex, "block")


def test_a_command_that_would_stay_as_it_is_stops_the_build():
    with pytest.raises(ValueError, match="unheardof"):
        mathml(r"\unheardof{x}", "inline")


def complaints_of(page):
    """What a reader would see go wrong: a request, an error, LaTeX as it is written, or a formula without a size."""
    formulas = page.locator("math")
    boxes = formulas.evaluate_all("all => all.map((one) => one.getBoundingClientRect().height)")
    text = page.evaluate("[...document.querySelectorAll('p, .math')].map((one) => one.textContent).join(' ')")
    raw = re.findall(r"\\(?:frac|sum|lVert|mathrm|operatorname|cdots|top|lambda)\b", text)
    return [one for one in page.complaints if not one.startswith("file:")], [box for box in boxes if not box], raw


@browser_only
@pytest.mark.browser
def test_a_page_shows_its_formulas_with_the_network_off(open_page, tmp_path):
    settings = 'import sys\nsys.path.append({!r})\nextensions = ["myst_parser", "docs.mathml"]\n'
    settings += 'myst_enable_extensions = ["dollarmath"]\nhtml_math_renderer = "mathml"\nhtml_theme = "furo"\n'
    (tmp_path / "conf.py").write_text(settings.format(str(ROOT)))
    (tmp_path / "index.md").write_text(PAGE)
    build(tmp_path, tmp_path / "site")
    page = open_page(tmp_path / "site" / "index.html")
    assert page.locator("math").count() == 2
    assert page.locator("mfrac").bounding_box()["height"] > page.locator("mfrac mi").bounding_box()["height"]
    assert complaints_of(page) == ([], [], [])


@browser_only
@pytest.mark.browser
@pytest.mark.slow
def test_the_whole_site_shows_its_formulas_with_the_network_off(open_page, tmp_path):
    build(ROOT / "docs", tmp_path / "site")
    # The gallery asks for its pictures, which are not there before `make docs`; it has no formula.
    left_out = set() if (ROOT / "docs" / "gallery").is_dir() else {"gallery.html"}
    pages = [path for path in sorted((tmp_path / "site").rglob("*.html")) if "_modules" not in path.parts]
    pages = [path for path in pages if path.name not in left_out]
    assert len(pages) > 20
    for path in pages:
        page = open_page(path)
        assert (path.name, complaints_of(page)) == (path.name, ([], [], []))
        page.close()
