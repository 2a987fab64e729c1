"""Single charts of a page as files for papers and slides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..results import Analysis, Comparison, Result, Trace
from .charts import (
    Spec,
    continuity_chart,
    graph_chart,
    heads_chart,
    interface_curves_chart,
    interfaces_chart,
    matrix_figure,
)
from .comparison_report import drift_chart, tensors_chart
from .trace_report import continuity_figure, heat_chart, weights_chart
from .vega import vega_all

Format = Literal["svg", "png", "pdf"]

#: Formats that a figure can have, which are also the suffixes of their files.
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class Figure:
    """A chart that can be had as a figure.

    Attributes
    ----------
    draw : callable
        Makes its specification of a result, or None where there is nothing to draw.
    needs : str, optional
        One of `MEASUREMENTS`, without which there is nothing.
    empty : str, optional
        Why there may be nothing all the same.
    """

    draw: Callable[[Any], Spec | None]
    needs: str | None = None
    empty: str = ""


_NO_CONTINUITY = "no weight shares a space with that of the next layer"
_NO_INTERFACE = "no two weights were measured that compose"

#: Charts that can be had as a figure, of each kind of result.
FIGURES: Mapping[type[Result], Mapping[str, Figure]] = {
    Analysis: {
        "continuity": Figure(continuity_chart, "continuity", _NO_CONTINUITY),
        "graph": Figure(graph_chart, "pairs", "no two subspaces are significantly aligned"),
        "matrix": Figure(matrix_figure, "pairs", "no two subspaces of the stream were compared"),
        "heads": Figure(heads_chart, "heads", "no two heads were compared"),
        "interfaces": Figure(interfaces_chart, "interfaces", _NO_INTERFACE),
        "interface-curves": Figure(interface_curves_chart, "interfaces", _NO_INTERFACE),
    },
    Comparison: {
        "tensors": Figure(tensors_chart, empty="no stored tensor of a layer was compared"),
        "drift": Figure(drift_chart),
    },
    Trace: {
        "drift": Figure(heat_chart, empty="no weight of a layer was followed"),
        "continuity": Figure(continuity_figure, "continuity", _NO_CONTINUITY),
        "weights": Figure(weights_chart),
    },
}

_SCALE = 2  # of a PNG
_NOWHERE = -1  # where a slider of the page stands that a figure does not have


def render_figure(
    result: Result,
    name: str,
    file_format: Format = "svg",
    *,
    settings: Mapping[str, str | float] | None = None,
) -> bytes:
    """One chart of the page, as it looks when the page opens, on a white ground.

    Parameters
    ----------
    result : Analysis, Comparison or Trace
    name : str
        One of `FIGURES` of its kind.
    file_format : {"svg", "png", "pdf"}, optional
        PNG is drawn at twice the size of the page.
    settings : mapping, optional
        Values of the chart's controls by name: ``{"threshold": 0.3, "kind": "write-read"}`` of the graph. A line
        above the chart says how they are set.

    Returns
    -------
    content : bytes
        Of the file.

    Raises
    ------
    ValueError
        If there is no such chart, format or setting, or this result has nothing to show in it.
    PageError
        If Vega cannot draw it here.
    """
    return drawn(figure_spec(result, name, settings or {}), file_format)


def figure_spec(result: Result, name: str, settings: Mapping[str, str | float]) -> Spec:
    """Vega or Vega-Lite specification of a figure, with its data."""
    require_figure(type(result), name)
    figure, measured = FIGURES[type(result)][name], result.settings.measure
    spec = figure.draw(result)
    if spec is None:
        lacking = figure.needs is not None and figure.needs not in measured
        why = f"it measured {', '.join(measured)}" if lacking else figure.empty
        raise ValueError(f"{result.KIND.name} has nothing to draw in {name!r}: {why}")
    controls = {}
    for control in (*spec.get("signals", []), *spec.get("params", [])):
        if "element" in control.get("bind", {}):
            control["value"] = _NOWHERE
            del control["bind"]
        elif "bind" in control:
            controls[control["name"]] = control
    for setting, value in settings.items():
        if setting not in controls:
            raise ValueError(f"{name}: expected a setting among {', '.join(controls) or 'none'}; found {setting!r}")
        controls[setting]["value"] = _accepted(controls[setting], value)
    said = [_said(control) for control in controls.values() if control["value"] != ""]
    if said:
        spec["title"] = {"text": " · ".join(said), "anchor": "start", "fontWeight": "normal", "fontSize": 11}
    return spec | {"background": "white"}


def require_figure(kind: type[Result], name: str) -> None:
    """Raise `ValueError` unless a kind of result has such a figure."""
    known = FIGURES[kind]
    if name not in known:
        raise ValueError(f"{kind.KIND.name}: expected a figure among {', '.join(known)}; found {name!r}")


def drawn(spec: Spec, file_format: Format) -> bytes:
    """Bytes of a file in this format."""
    return drawn_all([spec], file_format)[0]


def drawn_all(specs: Sequence[Spec], file_format: Format) -> list[bytes]:
    """Bytes of a file for each specification; all have to be of one language."""
    if file_format not in FORMATS:
        raise ValueError(f"expected a format among {', '.join(FORMATS)}; found {file_format!r}")
    language = "vegalite" if all("vega-lite" in spec["$schema"] for spec in specs) else "vega"
    return vega_all(f"{language}_to_{file_format}", specs, **({"scale": _SCALE} if file_format == "png" else {}))


def _accepted(control: dict[str, Any], value: str | float) -> str | float:
    """The value, if the control can have it."""
    bind = control["bind"]
    if bind["input"] == "range":
        try:
            inside = bind["min"] <= float(value) <= bind["max"]
        except ValueError:
            inside = False
        if not inside:
            raise ValueError(
                f"{control['name']}: expected a number from {bind['min']:g} to {bind['max']:g}; found {value!r}"
            )
        return float(value)
    if bind["input"] == "select" and value not in bind["options"]:
        raise ValueError(f"{control['name']}: expected one of {', '.join(bind['options'])}; found {value!r}")
    return value


def _said(control: dict[str, Any]) -> str:
    """The control as the page shows it: its name and what it is set to."""
    bind, value = control["bind"], control["value"]
    labels = dict(zip(bind.get("options", []), bind.get("labels", []), strict=False))
    return f"{bind['name']}{f'{value:g}' if isinstance(value, float | int) else labels.get(value, value)}"
