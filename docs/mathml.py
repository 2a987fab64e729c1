"""Formulas of the site as MathML, which browsers show by themselves: no script, and no network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def inline(writer: HTML5Translator, node: nodes.math) -> None:
    """A formula in a sentence."""
    writer.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def display(writer: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on lines of its own."""
    writer.body.append(writer.starttag(node, "div", CLASS="math") + mathml(node.astext(), "block") + "</div>")
    raise nodes.SkipNode


def mathml(latex: str, how: str) -> str:
    """A formula as MathML, inline or as a block; ValueError where a command of it would stay as it is."""
    if r"\\" in latex and r"\begin" not in latex:
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    # The converter knows double bars, but not of a size of their own, and makes single upright letters italic.
    latex = re.sub(r"\\[Bb]igg?[lr](\\[lr]Vert|\\\|)", r"\1", latex.strip())
    formula = convert(re.sub(r"\\mathrm\{(\w)\}", r"\\text{\1}", latex), display=how)
    if "\\" in formula:
        raise ValueError(f"expected LaTeX that has a sign in MathML; found {latex!r}")
    return formula


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer to the site."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
