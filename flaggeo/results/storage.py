"""How results are kept on disk: all or nothing."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv

from ..numerics.threads import workers

TABLES = (
    "weights",
    "spaces",
    "continuity",
    "curves",
    "lags",
    "paths",
    "path_variance",
    "nulls",
    "pairs",
    "chance",
    "interfaces",
    "interface_curves",
    "heads",
    "skipped",
)
RESULT_FILE = "result.json"
BASES_FILE = "bases.safetensors"
GRAPH_FILE = "graph.graphml"
REPORT_FILE = "report.html"
#: Everything that a result consists of. A folder that holds anything else is never replaced.
RESULT_NAMES = frozenset({RESULT_FILE, BASES_FILE, GRAPH_FILE, REPORT_FILE}) | {
    f"{table}.{suffix}" for table in TABLES for suffix in ("csv", "parquet")
}
COMPARISON_TABLES = ("weights", "deltas", "summary", "observables", "pairs", "skipped")
COMPARISON_FILE = "comparison.json"
COMPARISON_REPORT_FILE = "comparison.html"
#: The same for a comparison of two networks: neither kind of result replaces the other.
COMPARISON_NAMES = frozenset({COMPARISON_FILE, COMPARISON_REPORT_FILE}) | {
    f"{table}.{suffix}" for table in COMPARISON_TABLES for suffix in ("csv", "parquet")
}
TRACE_TABLES = ("checkpoints", "summary", "continuity", "interfaces", "drift", "weights", "skipped")
TRACE_FILE = "trace.json"
TRACE_REPORT_FILE = "trace.html"
#: The same for a trace of many checkpoints.
TRACE_NAMES = frozenset({TRACE_FILE, TRACE_REPORT_FILE}) | {
    f"{table}.{suffix}" for table in TRACE_TABLES for suffix in ("csv", "parquet")
}


def require_replaceable(folder: Path, *, overwrite: bool, names: frozenset[str] = RESULT_NAMES) -> None:
    """Raise unless a result, which consists of files of these names, may be written at `folder`.

    Raises
    ------
    FileExistsError
        If something is there and `overwrite` is False, or it is more than a result of flaggeo.
    PermissionError
        If nothing may be written there.
    """
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise PermissionError(f"{folder}: expected a place to write to, found {existing} without permission")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder}: expected a folder, found a file")
    found = {path.name for path in folder.iterdir()}
    if found and not overwrite:
        raise FileExistsError(f"{folder}: expected a new folder, found an existing one: choose another or overwrite it")
    if found - names:
        raise FileExistsError(
            f"{folder}: expected a result of flaggeo and nothing else to overwrite, found also "
            f"{sorted(found - names)[0]!r}: choose another folder"
        )


@contextmanager
def replaced_at_once(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place when the block ends without an error."""
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if folder.exists():
            previous = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
            folder.rename(previous / folder.name)
            try:
                temporary.rename(folder)
            except BaseException:
                (previous / folder.name).rename(folder)
                raise
            finally:
                shutil.rmtree(previous)
        else:
            temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def save_tables(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    records: Mapping[str, Any],
    pages: Mapping[str, str | None],
    *,
    others: Mapping[str, Callable[[Path], object]] | None = None,
    names: frozenset[str],
    overwrite: bool,
) -> None:
    """Write tables as CSV and Parquet, records as JSON and pages as they are, at once or not at all.

    CSV has seven digits of every number: half of the text, and more than any measurement is known to. Parquet has all.

    Parameters
    ----------
    folder : Path
        Made if missing.
    tables, records, pages : mapping
        By name of the table, or of the file. A page that is None is left out.
    others : mapping, optional
        What writes each further file to a path, by name of the file. It runs beside the writing of the tables.
    names : frozenset of str
        Names of all files that such a result may consist of.
    overwrite : bool
        Replace an earlier result of these names.

    Raises
    ------
    FileExistsError, PermissionError
        As `require_replaceable`.
    """
    require_replaceable(folder, overwrite=overwrite, names=names)
    writers = dict(others or {})
    for name, table in tables.items():
        writers[f"{name}.csv"] = partial(_write_csv, table)
        writers[f"{name}.parquet"] = partial(table.to_parquet, index=False)
    with replaced_at_once(folder) as temporary:
        with workers() as pool:
            for written in [pool.submit(write, temporary / name) for name, write in writers.items()]:
                written.result()
        for name, record in records.items():
            text = json.dumps(record, indent=2, allow_nan=False)
            (temporary / name).write_text(text + "\n", encoding="utf-8")
        for name, page in pages.items():
            if page is not None:
                (temporary / name).write_text(page, encoding="utf-8")


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    single = table.astype(dict.fromkeys(table.select_dtypes("float64"), "float32"))
    arrow_csv.write_csv(pa.Table.from_pandas(single, preserve_index=False), path)


def load_tables(
    folder: Path, names: Collection[str], file: str, what: str, schema_version: int, remedy: str
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Tables of these names and the record in `file`, which has to be of this schema version.

    Raises
    ------
    FileNotFoundError
        If the folder holds no such file; the message says that `what` was expected.
    ValueError
        If its schema version is another; the message ends in the `remedy`.
    """
    if not (folder / file).is_file():
        raise FileNotFoundError(f"{folder}: expected {what} of flaggeo, found no {file}")
    record = json.loads((folder / file).read_text(encoding="utf-8"))
    if record.get("schema_version") != schema_version:
        raise ValueError(
            f"{folder / file}: expected schema version {schema_version}, found {record.get('schema_version')!r}: "
            f"{remedy}"
        )
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}, record


def replace_file(path: Path, content: bytes) -> None:
    """Write a file at once or not at all; folders are made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
