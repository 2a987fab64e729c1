"""The pages of tables: every file of an analysis and of a watched run, and every column with its meaning."""

from collections.abc import Mapping

from flaggeo.alignment import Schema
from flaggeo.comparison.interference import INTERFERENCE_SCHEMA
from flaggeo.comparison.tensors import TENSOR_SCHEMA
from flaggeo.results.analysis import Analysis
from flaggeo.tracing.updates import UPDATE_SCHEMA
from flaggeo.training.monitor.records import SCHEMAS

HEAD = """\
# Tables and files

`flaggeo analyze PATH -o DIR` writes to `DIR`, at once or not at all:

| file | what it holds |
|---|---|
| `report.html` | the page; self-contained |
| `result.json` | schema version, provenance, the summary |
| {tables} (`.parquet`, and `.csv` up to 5,000 rows) | the tables below |
| `bases.safetensors` | float32 frames `layers.3.q.read` and `layers.3.q.write`; `layers.3.q.singular_values` |
| `graph.graphml` | the alignment graph |

All measurements are dimensionless. An empty cell means undefined: a direction that does not exist, a subspace that is
the whole space, a null that was not drawn, or what was not measured. CSV files have seven digits, Parquet files all.
The singular values are those of the frames and the next, or all of them where spectra were measured.

`python -m docs.build` writes this page.
"""

RECORDS_HEAD = """\
# Records of a monitor

[A monitor](monitor.md) writes one folder a record, `step-000000000100` at step 100, with these tables as Parquet files.
Angles are in degrees. All else is dimensionless, but for norms and singular values, which are in the units of the
weights. An empty cell means undefined.

`python -m docs.build` writes this page.
"""

TAIL = """\
## The graph

A `networkx.MultiDiGraph`, see [`alignment_graph`](reference.md) for the attributes of nodes and edges. The pairs that
are not drawn are in `pairs`. `analysis.structure` computes statistics of the whole graph when asked for; their tables,
and those of comparisons and traces but for three, are described in [the reference](reference.md).

## Of comparisons and traces

`tensors` and `interference` belong to a comparison, `updates` to a trace.
"""

#: Tables of comparisons and traces whose columns are declared.
OTHERS = {"tensors": TENSOR_SCHEMA, "interference": INTERFERENCE_SCHEMA, "updates": UPDATE_SCHEMA}


def tables_page() -> str:
    """Every table of an analysis with its columns, and some of comparisons and traces, as MyST Markdown."""
    schemas = Analysis.schemas()
    return "\n".join(
        [HEAD.format(tables=", ".join(f"`{name}`" for name in schemas)), *_sections(schemas), TAIL, *_sections(OTHERS)]
    )


def records_page() -> str:
    """Every table of a record of a monitor with its columns, as MyST Markdown."""
    return "\n".join([RECORDS_HEAD, *_sections(SCHEMAS)])


def _sections(schemas: Mapping[str, Schema]) -> list[str]:
    parts = []
    for name, schema in schemas.items():
        rows = [f"| `{column.name}` | {column.dtype} | {_cell(column.meaning)} |" for column in schema.columns]
        parts.append(
            "\n".join([f"## {name}\n", f"{schema.row}.\n", "| column | type | meaning |", "|---|---|---|", *rows, ""])
        )
    return parts


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
