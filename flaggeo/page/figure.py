"""Single charts of the page as files for papers and slides."""

from collections.abc import Callable
from typing import Literal

import vl_convert

from ..result import Analysis
from .charts import Spec, continuity_chart, graph_chart, heads_chart, interfaces_chart, matrix_figure

Format = Literal["svg", "png", "pdf"]

#: Charts that can be had as a figure.
FIGURES: dict[str, Callable[[Analysis], Spec | None]] = {
    "continuity": continuity_chart,
    "graph": lambda analysis: graph_chart(analysis.graph),
    "matrix": matrix_figure,
    "heads": heads_chart,
    "interfaces": interfaces_chart,
}


def render_figure(analysis: Analysis, name: str, file_format: Format = "svg") -> bytes:
    """One chart of the page, as it looks when the page opens, on a white ground.

    Parameters
    ----------
    analysis : Analysis
    name : str
        One of `FIGURES`.
    file_format : {"svg", "png", "pdf"}, optional
        PNG is drawn at twice the size of the page.

    Returns
    -------
    content : bytes
        Of the file.

    Raises
    ------
    ValueError
        If there is no such chart, or this analysis has nothing to show in it.
    """
    if name not in FIGURES:
        raise ValueError(f"expected a figure among {', '.join(FIGURES)}; found {name!r}")
    spec = FIGURES[name](analysis)
    if spec is None:
        raise ValueError(f"expected an analysis with something to draw in {name!r}; found none of it")
    spec["background"] = "white"
    lite = "vega-lite" in spec["$schema"]
    if file_format == "svg":
        return (vl_convert.vegalite_to_svg(spec) if lite else vl_convert.vega_to_svg(spec)).encode()
    if file_format == "png":
        return vl_convert.vegalite_to_png(spec, scale=2) if lite else vl_convert.vega_to_png(spec, scale=2)
    if file_format == "pdf":
        return vl_convert.vegalite_to_pdf(spec) if lite else vl_convert.vega_to_pdf(spec)
    raise ValueError(f"expected a format among svg, png, pdf; found {file_format!r}")
