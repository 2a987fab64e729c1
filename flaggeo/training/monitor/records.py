"""The records of a watched run on disk: one folder a step, written at once or not at all, and read with distrust."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow.parquet import read_metadata
from pyarrow.parquet import write_table as write_parquet

from ...alignment import Column, Observable, Schema
from ...alignment.depth.cosines import ABS_COSINE, ABS_COSINE_2, LEADING_OVERLAP, SIGMA2_WEIGHTED
from ...alignment.interfaces.leading_directions import INTERFACE_OVERLAP, WINDOW_CONTRAST, WINDOW_RHO
from ...alignment.pairs.overlap import PROJECTION_OVERLAP
from ...results.storage import MONITOR_FILE, ResultError, load_record, load_tables, replace_file, replaced_at_once

REFERENCE_FILE = "reference.safetensors"
_SCHEMA_VERSION = 2
_STEP = re.compile(r"step-(\d{12})")
# Records that a run may have; budgets leave far fewer.
_MOST_RECORDS = 100_000


def _beside_haar(observable: Observable[Any]) -> Observable[Any]:
    """The same with the mean and spread of uniform subspaces alone: other nulls take longer than all else here."""
    null = replace(observable.null, p_value=None)
    return replace(observable, null=null, further_nulls=())


#: What is measured of each role, side and pair of neighbouring layers.
OF_LAYERS = tuple(map(_beside_haar, (ABS_COSINE, ABS_COSINE_2, SIGMA2_WEIGHTED, LEADING_OVERLAP)))
#: What is measured of two leading subspaces that were chosen, and of those that meet in an MLP.
OF_PAIRS, OF_INTERFACES = _beside_haar(PROJECTION_OVERLAP), _beside_haar(INTERFACE_OVERLAP)

_ROLE = Column("role", "str", "role, behind `update.` or `gradient.` where it is not the weight that was measured")
_LAYER = Column("layer", "Int64", "layer; missing for what stands outside of them")
_HEAD = Column("head", "Int64", "number of the head; missing for a whole projection")
_SIDE = Column("side", "str", "read is the side of the right singular vectors, write that of the left ones")
_RANK = Column("rank", "int64", "leading directions compared")

#: Tables of a record, by name.
SCHEMAS: Mapping[str, Schema] = {
    "continuity": Schema(
        "One row for each role, side and pair of neighbouring layers",
        (
            _ROLE,
            _SIDE,
            _LAYER,
            Column("next_layer", "Int64", "the next layer that has the role"),
            Column("space", "str", "space that both sides lie in, or the two spaces"),
            Column("shared_space", "bool", "whether both sides lie in one space"),
            Column("basis_independent", "bool", "whether no change of basis of the network alters these angles"),
            Column("dim", "int64", "dimension of the space"),
            Column("undetermined", "bool", "whether a gap below 1 % leaves the first direction of either layer free"),
            _RANK,
            Column("energy", "float64", "share of the earlier matrix's squared norm in its kept directions"),
            *(column for observable in OF_LAYERS for column in observable.columns),
        ),
    ),
    "drift": Schema(
        "One row for each weight, side and `since`",
        (
            Column("name", "str", "name of the weight"),
            Column("role", "str", "its role"),
            _LAYER,
            _HEAD,
            _SIDE,
            Column("since", "str", "`first`: the reference step; `previous`: the record before this one"),
            Column("since_step", "int64", "the step that it is compared with"),
            Column("dim", "int64", "dimension of the space"),
            _RANK,
            Column("undetermined", "bool", "whether a gap below 1 % leaves the first direction free at either step"),
            Column("angle_1", "float64", "angle between the first singular vectors, degrees"),
            Column("rms_angle", "float64", "root mean square of the principal angles of the subspaces, degrees"),
            Column("overlap", "float64", "projection overlap of the two, in [0, 1]"),
            Column("overlap_null_mean", "float64", "the same of unrelated (Haar) subspaces, mean"),
            Column("overlap_null_sd", "float64", "its standard deviation"),
        ),
    ),
    "weights": Schema(
        "One row for each weight, and for each update and gradient",
        (
            Column("name", "str", "name of the weight, behind `update.` or `gradient.` where it is not the weight"),
            _ROLE,
            _LAYER,
            _HEAD,
            Column("rank", "int64", "kept directions of non-zero singular value"),
            Column("frobenius_norm", "float64", "root of the sum of all squared entries"),
            Column("sigma_max", "float64", "largest singular value"),
            Column("stable_rank", "float64", "squared Frobenius norm over squared largest singular value"),
            Column("energy", "float64", "share of the squared Frobenius norm in the kept directions"),
            Column("gap_1", "float64", "(s_1 - s_2) / s_1"),
            Column("undetermined", "int64", "kept directions that a gap below 1 % leaves free to rotate"),
            Column("residual", "float64", "largest misfit of a kept triplet, relative to s_1"),
        ),
    ),
    "interfaces": Schema(
        "One row for each pair of weights inside an MLP, or inside an attention head where heads are watched, of which "
        "the second reads what the first writes",
        (
            Column("name", "str", "`layers.3.up-down`, `layers.3.heads.5.q-k`"),
            Column("kind", "str", "`up-down`, `gate-down`, `q-k`, `v-o`; of an expert `expert_up-expert_down`"),
            _LAYER,
            Column("space", "str", "space between the two weights"),
            Column("dim", "int64", "its dimension"),
            Column("symmetry", "str", "changes of basis of the space that leave the network's function unchanged"),
            _RANK,
            *OF_INTERFACES.columns,
            Column("window_rho", "float64", f"{WINDOW_RHO.title}: 0 where they share axes, about 1 where not"),
            Column("window_contrast", "float64", f"{WINDOW_CONTRAST.title}, in [0, 1]"),
            Column("window_imbalance", "float64", "imbalance of the two Gram matrices there, in [0, 1]; 0 is balance"),
            Column("unit_imbalance", "float64", "imbalance of the squared norms of all hidden units, in [0, 1]"),
            Column("unit_imbalance_null_rms", "float64", "the same with the units of one weight permuted"),
        ),
    ),
    "pairs": Schema(
        "One row for each pair of subspaces that was asked for",
        (
            Column("source", "str", "weight and side: `layers.0.down.write`"),
            Column("target", "str", "weight and side"),
            Column("space", "str", "space that both lie in"),
            Column("dim", "int64", "its dimension"),
            *OF_PAIRS.columns,
        ),
    ),
}

Tables = Mapping[str, pd.DataFrame]


def numbers_in(tables: Tables) -> int:
    """Cells of a record, by which a budget counts."""
    return sum(table.size for table in tables.values())


class Records:
    """The folder of a watched run.

    Parameters
    ----------
    folder : Path
        Made; nothing may be in it, unless a run goes on from there.
    provenance : mapping
        What is watched, and how.
    continued : int, optional
        Step from which a run goes on whose records are in the folder. Later ones are removed, and with them what cannot
        be read: a machine that fails may leave files without their content.

    Attributes
    ----------
    cells : dict of int to int
        Of each record, by its step.
    lost : list of int
        Steps up to there whose records could not be read.

    Raises
    ------
    FileExistsError
        If something is in the folder, and no run goes on from it.
    """

    def __init__(self, folder: Path, provenance: Mapping[str, Any], *, continued: int | None = None) -> None:
        if continued is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            way_on = ", or give the step of the model as start to continue its records" if is_monitored(folder) else ""
            raise FileExistsError(f"{folder}: expected a new or empty folder, found one in use: choose another{way_on}")
        self._folder = folder
        self.cells: dict[int, int] = {}
        self.lost: list[int] = []
        self.note(provenance)
        if continued is not None:
            self._keep_until(continued)

    @property
    def steps(self) -> list[int]:
        """Of which there are records, ascending."""
        return list(self.cells)

    @property
    def reference_file(self) -> Path:
        """Where the leading directions of the reference step are kept."""
        return self._folder / REFERENCE_FILE

    def _keep_until(self, last: int) -> None:
        for unfinished in self._folder.glob(".step-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        for step in steps_in(self._folder):
            self.cells[step] = _cells(self._folder / _name(step))
            if step <= last and not self.cells[step]:
                self.lost.append(step)
            if step > last or not self.cells[step]:
                self.drop(step)

    def note(self, provenance: Mapping[str, Any]) -> None:
        """Write what is known of the run."""
        record = {"schema_version": _SCHEMA_VERSION, "provenance": provenance}
        replace_file(self._folder / MONITOR_FILE, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())

    def write(self, step: int, tables: Tables) -> None:
        """Add the record of a step, which is there as a whole or not at all, whenever the process ends."""
        with replaced_at_once(self._folder / _name(step)) as temporary:
            for name, schema in SCHEMAS.items():
                columns = pa.Table.from_pandas(schema.frame(tables[name]), preserve_index=False)
                write_parquet(columns, temporary / f"{name}.parquet")
        self.cells[step] = numbers_in(tables)

    def drop(self, step: int) -> None:
        """Remove a record; it is gone as a whole before its files are."""
        gone = self._folder / f".{_name(step)}.gone"
        (self._folder / _name(step)).rename(gone)
        del self.cells[step]
        # On a network disk a reader may hold a file of it.
        shutil.rmtree(gone, ignore_errors=True)


def is_monitored(folder: str | Path) -> bool:
    """Whether a folder is that of a watched run."""
    return (Path(folder) / MONITOR_FILE).is_file()


def read_provenance(folder: Path) -> dict[str, Any]:
    """What a monitor noted of its run.

    Raises
    ------
    ResultError
        If it is damaged, or of another version.
    """
    record = load_record(folder / MONITOR_FILE, _SCHEMA_VERSION, "watch the run again")
    if not isinstance(record.get("provenance"), dict):
        raise ResultError(f"{folder / MONITOR_FILE} is damaged: expected what a monitor notes of its run")
    found: dict[str, Any] = record["provenance"]
    return found


def has_ended(folder: Path) -> bool:
    """Whether the monitor of a run was closed; one that was killed was not."""
    return bool(read_provenance(folder).get("ended"))


def steps_in(folder: Path) -> list[int]:
    """Steps of which there are records, ascending.

    Raises
    ------
    ResultError
        If there are more than a run has.
    """
    steps = sorted(int(match[1]) for entry in folder.iterdir() if (match := _STEP.fullmatch(entry.name)))
    if len(steps) > _MOST_RECORDS:
        raise ResultError(f"{folder}: expected at most {_MOST_RECORDS} records, found {len(steps)}")
    return steps


def read_record(folder: Path, step: int) -> dict[str, pd.DataFrame]:
    """Tables of the record of a step.

    Raises
    ------
    FileNotFoundError
        If it has been removed meanwhile.
    ResultError
        If a file is missing, is damaged, or has other columns than a monitor writes.
    """
    part = folder / _name(step)
    if not part.is_dir():
        raise FileNotFoundError(f"{part}: expected a record, found none")
    try:
        found = load_tables(part, SCHEMAS)
        tables = {}
        for name, schema in SCHEMAS.items():
            if list(found[name].columns) != schema.names:
                raise ResultError(f"{part / name}.parquet: expected the columns of a monitor, found others")
            tables[name] = schema.frame(found[name])
    except Exception as error:  # whatever the libraries of the format raise about a damaged file
        if not part.is_dir():
            raise FileNotFoundError(f"{part}: expected a record, found it removed") from error
        if isinstance(error, ResultError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ResultError(f"{part}: cannot read this record: {reason}") from error
    return tables


def _cells(part: Path) -> int:
    """Cells of a record on disk, from what its files say of themselves; 0 where one cannot be read."""
    try:
        found = [read_metadata(part / f"{name}.parquet") for name in SCHEMAS]
    except (OSError, pa.ArrowException):
        return 0
    return sum(one.num_rows * one.num_columns for one in found)


def _name(step: int) -> str:
    return f"step-{step:012d}"
