"""The cards and charts of an analysis as a notebook shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from markupsafe import Markup

from ..results.analysis import Analysis
from ..results.storage import replace_file
from .charts import Spec
from .figure import Format, drawn, figure_spec
from .report import report_cards

# Of the verdicts, legible on a light and on a dark ground.
_COLOURS = {"present": "#1f8f5f", "small": "#7f8a9b", "absent": "#7f8a9b", "not_measured": "#3f7fbf"}
_OTHER_COLOUR = "#c06a10"
_CARD = Markup('<li><b style="color: {}">{}</b> {}: <b>{}</b> ({})</li>')


def render_cards(analysis: Analysis) -> str:
    """What the page opens with, a line each; every text is escaped.

    Parameters
    ----------
    analysis : Analysis

    Returns
    -------
    html : str
        A list, for a notebook.
    """
    items = (
        _CARD.format(_COLOURS.get(card.verdict, _OTHER_COLOUR), card.badge, card.title, card.told, card.baseline)
        for card in report_cards(analysis)
    )
    return f"<ul>{''.join(items)}</ul>"


@dataclass(frozen=True)
class Chart:
    """A chart of the page. A notebook shows it as a picture, which takes neither a network nor an extension.

    Attributes
    ----------
    spec : dict
        Its Vega or Vega-Lite specification, with the data.
    """

    spec: Spec

    def save(self, file: str | Path) -> None:
        """Write it to an .svg, .png or .pdf, in place of what is there."""
        path = Path(file)
        replace_file(path, drawn(self.spec, cast(Format, path.suffix.removeprefix(".").lower())))

    def altair(self) -> Any:
        """The chart as Altair has it, to be changed there.

        Returns
        -------
        chart : altair.Chart

        Raises
        ------
        ModuleNotFoundError
            If Altair is not installed: ``pip install "flaggeo[altair]"``.
        ValueError
            If the chart is made with Vega itself, as graph, matrix and heads are; see `save` and `spec` for these.
        """
        if "vega-lite" not in self.spec["$schema"]:
            raise ValueError(
                "altair: expected a chart in Vega-Lite, found one in Vega, for which Altair has no classes; use "
                "chart.save(file) for a picture, and chart.spec in an editor for Vega"
            )
        try:
            from altair import Chart as AltairChart
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError('altair is not installed: pip install "flaggeo[altair]"') from error
        return AltairChart.from_dict(self.spec)

    def __repr__(self) -> str:
        return f"Chart({self.spec['$schema'].rpartition('/schema/')[2]})"

    def _repr_svg_(self) -> str:
        return drawn(self.spec, "svg").decode()


def chart(analysis: Analysis, name: str, settings: Mapping[str, str | float]) -> Chart:
    """One chart of the page by its name, see `Analysis.chart`."""
    return Chart(figure_spec(analysis, name, settings))
