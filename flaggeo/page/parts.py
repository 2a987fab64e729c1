"""What the pages share: the environment of their templates, tables, and data inside scripts."""

import json
import math
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from importlib.resources import files
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from .names import with_names
from .questions import QUESTIONS
from .vega_bundle import vega_bundle


def page_template(name: str) -> Template:
    """Template that escapes every text, and has ``table``, Vega itself and the script of the page at hand.

    The page allows these two scripts alone, by their hashes: one that came in with a name would not run.
    """
    environment = Environment(
        loader=PackageLoader("flaggeo", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    # Names select something where there is a graph to select it in.
    named = with_names if name == "report.html.j2" else escape
    environment.globals.update({"table": partial(html_table, named=named), "questions": QUESTIONS})
    environment.filters["named"] = named
    own = [files("flaggeo.page").joinpath(file) for file in ("tables.js", "charts.js", f"{name.partition('.')[0]}.js")]
    scripts = {"vega_bundle": vega_bundle(), "own_script": "".join(file.read_text(encoding="utf-8") for file in own)}
    environment.globals.update({variable: Markup(script) for variable, script in scripts.items()})
    environment.globals["script_sources"] = Markup(" ".join(map(_source, scripts.values())))
    return environment.get_template(name)


def _source(script: str) -> str:
    """A script as a Content-Security-Policy names it."""
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


#: What the columns of tables are called where a person reads them; others by their own names.
_HEADINGS = {
    "a": "A",
    "b": "B",
    "mean_a": "mean in A",
    "mean_b": "mean in B",
    "mean_change": "mean absolute change",
    "relative_change": "change / sd in A",
    "at": "where it changed most",
    "overlap_effect_size": "effect size",
    "overlap_excess": "excess",
    "null_largest": "largest under the null",
    "stable_value": "from stable edges",
    "stands_at_half_rank": "at half the rank",
    "stands_at_double_rank": "at twice the rank",
    "stands_after_rounding": "after rounding",
    "kernel_null_mean": "unrelated",
    "kernel_null_sd": "sd of unrelated",
    "kernel_sign_flip_mean": "sign-flip",
    "kernel_mean_matched_mean": "mean-matched",
    "kernel_norm_matched_mean": "norm-matched",
    "kernel_sd": "sd",
    "kernel": "shared dimensions",
    "kl": "KL divergence (nats)",
    "overlap_q_value": "q-value",
    "basis_independent": "basis-independent",
    "overlap_basis_independent": "angles basis-independent",
    "least": "least excess",
    "outlier_null": "largest without mean-matched",
    "matched": "share norm-matched",
    "share_of_null": "share of largest null",
    "r_squared": "R²",
}


# What tells of the machine, and not of the numbers: where the checkpoints were, and the command with such paths.
_LOCATIONS, _COMMAND = ("checkpoint", "a", "b", "c"), "command"


def provenance_tables(provenance: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """What was read, with what and when, as text.

    Returns
    -------
    tables : dict of str to pandas.DataFrame
        ``shown`` has checkpoints by their names. ``paths`` has the paths, and the command as it was given.
    """
    located = [key for key in _LOCATIONS if isinstance(provenance.get(key), str)]
    names = {key: PurePath(provenance[key]).name or provenance[key] for key in located}
    others = {key: value for key, value in provenance.items() if key not in (*located, _COMMAND)}
    paths = {key: provenance[key] for key in (*located, _COMMAND) if key in provenance}
    return {"shown": _as_table(names | others), "paths": _as_table(paths)}


def _as_table(values: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        [(key.replace("_", " "), _as_text(value)) for key, value in values.items()], columns=["what", "value"]
    )


def script(value: Any) -> Markup:
    """JSON that can stand inside a script element: no text in it can close the element."""
    return Markup(json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))


def number(value: float | None) -> float | None:
    """The value, or null where it is missing, undefined or infinite."""
    return value if value is not None and math.isfinite(value) else None


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_as_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)


def read_spec(name: str) -> dict[str, Any]:
    """Vega or Vega-Lite specification, without its data."""
    spec: dict[str, Any] = json.loads(files("flaggeo.page").joinpath(name).read_text(encoding="utf-8"))
    return spec


def html_table(table: pd.DataFrame, *, named: Callable[[str], Markup] = escape) -> Markup:
    """Accessible table; every cell is escaped by `named`, which may make buttons of the names in it."""
    headings = [_HEADINGS.get(str(column), str(column).replace("_", " ")) for column in table.columns]
    row = Markup("<tr>{}</tr>")
    numeric = [pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype) for dtype in table.dtypes]
    classes = ["" if is_number else "text" for is_number in numeric]
    head = row.format(
        Markup("").join(
            Markup('<th scope="col" class="{}">{}</th>').format(kind, heading)
            for kind, heading in zip(classes, headings, strict=True)
        )
    )
    body = Markup("").join(
        row.format(
            Markup("").join(
                Markup('<td class="{}">{}</td>').format(kind, named(_cell(value)))
                for kind, value in zip(classes, record, strict=True)
            )
        )
        for record in table.itertuples(index=False, name=None)
    )
    scrolled = Markup('<div class="scroll" tabindex="0" role="region" aria-label="Table: {}">{}</div>')
    content = Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(head, body)
    return scrolled.format(", ".join(headings[:3]), content)


# Below this a number is said to be below it.
_FLOOR = 1e-6


def _cell(value: Any) -> str:
    """A value as text."""
    if value is pd.NA or value is None or value != value:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _decimal(value)
    return str(value)


def _decimal(value: float) -> str:
    """Three decimals, or three significant digits of a number that would have fewer."""
    if 0 < value < _FLOOR:
        return f"< {_FLOOR:.0e}".replace("e-0", "e-")
    if 0 < abs(value) < 0.01:
        return f"{value:.3g}".replace("e-0", "e-")
    return f"{value:.3f}"
