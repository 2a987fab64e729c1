"""How results are kept on disk: all or nothing."""

import csv
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from glob import escape
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow.parquet import read_metadata
from pyarrow.parquet import write_table as write_parquet

from ..display import printable
from ..numerics.threads import workers

#: Record of a run that is watched, from which a trace is made.
MONITOR_FILE = "monitor.json"
# Beginnings of the names of folders that are there while a result takes the place of another.
_NEW, _OLD = ".{}.flaggeo-new-", ".{}.flaggeo-old-"
# With what is written beside it, the names have to stay below the 255 bytes of most file systems.
_LONGEST_NAME = 200
# Rows up to which a table is written as CSV too, for a person to read; Parquet is smaller and has all digits.
_READABLE_ROWS = 5000
# Bytes of a table that is loaded. Of five million pairs there are two.
_LARGEST_TABLE = 8 << 30
# What a formula of a spreadsheet begins with.
_FORMULA = ("=", "+", "-", "@")


def table_files(name: str) -> tuple[str, str]:
    """Names of the files that a table may be kept in."""
    return f"{name}.csv", f"{name}.parquet"


def require_replaceable(folder: Path, *, overwrite: bool, names: frozenset[str]) -> None:
    """Raise unless a result, which consists of files of these names, may be written at `folder`.

    Raises
    ------
    FileExistsError
        If something is there and `overwrite` is False, or it is more than a result of flaggeo, or above it is a file.
    PermissionError
        If nothing may be written there.
    ValueError
        If its name is too long to have others beside it.
    """
    if len(os.fsencode(folder.name)) > _LONGEST_NAME:
        raise ValueError(f"{folder}: expected a name of at most {_LONGEST_NAME} bytes, found {len(folder.name)}")
    if folder.is_symlink() and not folder.exists():
        raise FileExistsError(f"{folder}: expected a new folder, found a link to nothing")
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    if existing != folder.resolve() and not existing.is_dir():
        raise FileExistsError(f"{folder}: expected a place to write to, found the file {existing}")
    if not os.access(existing, os.W_OK):
        raise PermissionError(f"{folder}: expected a place to write to, found {existing} without permission")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder}: expected a folder, found a file")
    found = {path.name for path in folder.iterdir()}
    if found and not overwrite:
        raise FileExistsError(
            f"{folder}: expected a new folder, found an existing one: choose another, or give overwrite=True"
        )
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
    temporary = Path(tempfile.mkdtemp(prefix=_NEW.format(folder.name), dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if folder.exists():
            previous = Path(tempfile.mkdtemp(prefix=_OLD.format(folder.name), dir=folder.parent))
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


def clear_remains(folder: Path) -> None:
    """Remove what a process that was killed while it saved left beside a folder; give back what it had moved away."""
    for previous in folder.parent.glob(f"{escape(_OLD.format(folder.name))}*"):
        if (previous / folder.name).exists() and not folder.exists():
            (previous / folder.name).rename(folder)
        shutil.rmtree(previous, ignore_errors=True)
    for unfinished in folder.parent.glob(f"{escape(_NEW.format(folder.name))}*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def save_tables(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    texts: Mapping[str, Callable[[], str]],
    *,
    others: Mapping[str, Callable[[Path], object]],
    names: frozenset[str],
    overwrite: bool,
) -> None:
    """Write tables as Parquet, texts and further files, at once or not at all.

    Tables of at most 5,000 rows are there as CSV as well, with seven digits of every number: half of the text, and more
    than any measurement is known to. Parquet has all.

    Parameters
    ----------
    folder : Path
        Made if missing.
    tables : mapping
        By name.
    texts : mapping
        What makes each text, by name of its file; called while the tables are written beside.
    others : mapping
        What writes each further file to a path, by name of the file. It runs beside the writing of the tables.
    names : frozenset of str
        Names of all files that such a result may consist of.
    overwrite : bool
        Replace an earlier result of these names.

    Raises
    ------
    FileExistsError, PermissionError
        As `require_replaceable`.
    PageError
        If a text could not be made; everything else is saved then.
    """
    require_replaceable(folder, overwrite=overwrite, names=names)
    unmade: PageError | None = None
    writers = dict(others)
    for name, table in tables.items():
        csv, parquet = table_files(name)
        columns = pa.Table.from_pandas(table, preserve_index=False)
        if len(table) <= _READABLE_ROWS:
            writers[csv] = partial(_write_csv, columns)
        writers[parquet] = partial(write_parquet, columns)
    with replaced_at_once(folder) as temporary, workers() as pool:
        written = [pool.submit(write, temporary / name) for name, write in writers.items()]
        for name, text in texts.items():
            try:
                (temporary / name).write_text(text(), encoding="utf-8")
            except PageError as error:
                unmade = error
        for task in written:
            task.result()
    if unmade is not None:
        raise PageError(f"{folder}: saved without its page, which flaggeo report {folder} makes: {unmade}") from unmade


def altered_texts(folder: Path, tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, str]]:
    """Each CSV file of a saved result that does not say what `save_tables` writes of its table, and how it differs.

    Another program may have saved it again, with other quotes and digits.
    """
    for name, table in tables.items():
        text_file, parquet = table_files(name)
        file = folder / text_file
        if not file.is_file():
            if len(table) <= _READABLE_ROWS:
                yield text_file, "missing"
            continue
        text = io.BytesIO()
        _write_csv(pa.Table.from_pandas(table, preserve_index=False), text)
        expected = text.getvalue()
        with file.open("rb") as stream:
            found = stream.read(2 * len(expected) + 1)
        rows = zip_longest(*map(_rows, (expected, found)))
        number = next((place for place, row in enumerate(rows, start=1) if not _says_the_same(*row)), None)
        if number is not None:
            yield text_file, f"row {number} is not as {parquet} gives it"


def _rows(text: bytes) -> Iterator[list[str]]:
    """Rows of a CSV file; where it is none, they end."""
    with suppress(csv.Error):
        yield from csv.reader(io.StringIO(text.decode(errors="replace"), newline=""))


def _says_the_same(one: list[str] | None, other: list[str] | None) -> bool:
    """Whether the cells of two rows are equal as texts, or as numbers of single precision."""
    if one is None or other is None or len(one) != len(other):
        return False

    def same_number(first: str, second: str) -> bool:
        with suppress(ValueError):
            return math.isclose(float(first), float(second), rel_tol=1e-6)
        return False

    return all(first == second or same_number(first, second) for first, second in zip(one, other, strict=True))


def _write_csv(columns: pa.Table, target: Path | io.BytesIO) -> None:
    single = [pa.field(one.name, pa.float32()) if one.type == pa.float64() else one for one in columns.schema]
    columns = columns.cast(pa.schema(single))
    for place, field in enumerate(columns.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            cells = [None if text is None else _cell(text) for text in columns[place].to_pylist()]
            columns = columns.set_column(place, field, pa.array(cells, field.type))
    arrow_csv.write_csv(columns, target)


def _cell(text: str) -> str:
    """Text that a spreadsheet takes for text: it reads a formula where one of four characters comes first."""
    return printable(f"'{text}" if text.startswith(_FORMULA) else text)


class PageError(RuntimeError):
    """A page or a figure that cannot be made here, though its numbers are there."""


class ResultError(ValueError):
    """A saved result that cannot be read: it is damaged, or an earlier or later flaggeo wrote it."""


def load_record(file: Path, schema_version: int, remedy: str) -> dict[str, Any]:
    """The record of a result, which has to be of this schema version.

    Raises
    ------
    ResultError
        If it is no complete JSON, or its schema version is another; then the message ends in what to do, for an
        earlier one the `remedy`.
    """
    try:
        record: Any = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise ResultError(f"{file} is damaged: expected a complete record in JSON")
    found = record.get("schema_version")
    if found != schema_version:
        later = isinstance(found, int) and found > schema_version
        raise ResultError(
            f"{file}: expected schema version {schema_version}, found {found!r}, which "
            f"{'a later' if later else 'an earlier'} flaggeo wrote: {'update flaggeo' if later else remedy}"
        )
    return record


def load_tables(folder: Path, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Tables of these names, with all digits."""
    files = {name: saved_file(folder, table_files(name)[1]) for name in names}
    for file in files.values():
        groups = read_metadata(file)
        size = sum(groups.row_group(number).total_byte_size for number in range(groups.num_row_groups))
        if size > _LARGEST_TABLE:
            raise ResultError(f"{file}: expected a table of at most {_LARGEST_TABLE >> 30} GiB, found {size >> 30} GiB")
    return {name: pd.read_parquet(file) for name, file in files.items()}


def saved_file(folder: Path, name: str) -> Path:
    """A file of a saved result; `ResultError` is raised if it is missing."""
    if not (folder / name).is_file():
        raise ResultError(f"{folder}: expected a complete result, found the file {name} missing")
    return folder / name


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
