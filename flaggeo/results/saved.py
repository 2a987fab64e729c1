"""The base of what is found: tables that are saved with their page, loaded, and told in sentences."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pandas as pd
from pyarrow import ArrowException

from ..checkpoint import holds_weights
from ..display import Displayed
from ..settings import Settings
from .storage import MONITOR_FILE, ResultError, load_record, load_tables, require_replaceable, save_tables, table_files

if TYPE_CHECKING:
    from ..findings import Finding

# What numbers and texts of a wrong kind raise, wherever they are used.
_SENSELESS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, ArrowException)


@dataclass(frozen=True)
class Kind:
    """What a kind of result is called, on disk and by the rooms that tell of it.

    Attributes
    ----------
    name : str
        With its article, for errors.
    record_file, page_file : str
        The record has the schema version and the provenance.
    schema_version : int
        Changes whenever a saved result of the version before cannot be read any more.
    remedy : str
        How to have a result of an earlier schema again.
    renderer, teller : str
        The functions of `flaggeo.page` and `flaggeo.findings` that make the page and the findings.
    further_files : tuple of str
        What there is beside the record, the page and the tables.
    """

    name: str
    record_file: str
    page_file: str
    schema_version: int
    remedy: str
    renderer: str
    teller: str
    further_files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Result(Displayed):
    """Tables and where they come from. Every field of a subclass that is a DataFrame is saved and loaded.

    Attributes
    ----------
    provenance : mapping
        What was read, with what settings and versions, and when.
    """

    KIND: ClassVar[Kind]

    provenance: Mapping[str, Any]

    @classmethod
    def table_names(cls) -> tuple[str, ...]:
        """Names of the tables."""
        return tuple(table.name for table in fields(cls) if table.type is pd.DataFrame)

    @classmethod
    def file_names(cls) -> frozenset[str]:
        """Names of all files that a saved result consists of."""
        named = (cls.KIND.record_file, cls.KIND.page_file, *cls.KIND.further_files)
        return frozenset(named) | {file for name in cls.table_names() for file in table_files(name)}

    @property
    def settings(self) -> Settings:
        """What was measured."""
        return Settings.from_record(self.provenance["settings"])

    @cached_property
    def findings(self) -> "list[Finding]":
        """What the numbers say, the most important first."""
        from .. import findings

        with self._sense_made():
            found: list[Finding] = getattr(findings, self.KIND.teller)(self)
        return found

    def to_html(self) -> str:
        """The page: one self-contained file that needs neither a network nor the checkpoint."""
        html: str = self._rendered(self.KIND.renderer)
        return html

    def _rendered(self, renderer: str, *arguments: Any) -> Any:
        """What a function of `flaggeo.page` makes of it."""
        from .. import page

        with self._sense_made():
            return getattr(page, renderer)(self, *arguments)

    @contextmanager
    def _sense_made(self) -> Iterator[None]:
        """Name the folder of a result that was loaded, whose files may hold anything, where it makes no sense."""
        try:
            yield
        except _SENSELESS as error:
            folder = vars(self).get("_folder")
            if folder is None:
                raise
            raise _unreadable(folder, error) from error

    @classmethod
    def require_replaceable(cls, folder: str | Path, *, overwrite: bool = False) -> None:
        """Raise what `save` would raise, before there is anything to save."""
        require_replaceable(Path(folder), overwrite=overwrite, names=cls.file_names())

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the page and everything else to a folder, at once or not at all.

        Parameters
        ----------
        folder : str or Path
            Made if missing.
        overwrite : bool, optional
            Replace an earlier result of this kind in the folder.

        Raises
        ------
        FileExistsError
            If the folder is in use and `overwrite` is False, or it holds anything but a result of this kind.
        PermissionError
            If nothing may be written there.
        PageError
            If the page cannot be made here, for example in too little memory. All else is saved then, and
            ``flaggeo report`` makes the page later.

        Notes
        -----
        The folder holds the page, a record in JSON (schema version, provenance), and each table as Parquet, those of at
        most 5,000 rows as CSV too; that of an `Analysis` the frames (``bases.safetensors``, float32) and the graph
        (``graph.graphml``) as well.
        """
        record = {"schema_version": self.KIND.schema_version, **self._record()}
        save_tables(
            Path(folder),
            {name: getattr(self, name) for name in self.table_names()},
            {
                self.KIND.record_file: lambda: json.dumps(record, indent=2, allow_nan=False) + "\n",
                self.KIND.page_file: self.to_html,
            },
            others=self._writers(),
            names=self.file_names(),
            overwrite=overwrite,
        )

    @classmethod
    def is_in(cls, folder: str | Path) -> bool:
        """Whether a folder holds a result of this kind, as far as its record's name tells."""
        return (Path(folder) / cls.KIND.record_file).is_file()

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read back what `save` wrote; no checkpoint is needed.

        Parameters
        ----------
        folder : str or Path

        Returns
        -------
        result
            Of the class that it is asked of.

        Raises
        ------
        FileNotFoundError
            If the folder holds no such result.
        ResultError
            If it is damaged, or another version of flaggeo wrote it in a form that this one does not know.
        """
        folder = Path(folder)
        if not cls.is_in(folder):
            raise FileNotFoundError(f"{folder}: expected {cls.KIND.name} of flaggeo, found {found_instead(folder)}")
        try:
            record = load_record(folder / cls.KIND.record_file, cls.KIND.schema_version, cls.KIND.remedy)
            found = cls(**cls._loaded(folder), provenance=record["provenance"])
        except ResultError:
            raise
        except Exception as error:  # whatever the libraries of the formats raise about a damaged file
            raise _unreadable(folder, error) from error
        vars(found)["_folder"] = folder
        return found

    def _record(self) -> dict[str, Any]:
        """What the record has beside the schema version."""
        return {"provenance": dict(self.provenance)}

    def _writers(self) -> dict[str, Callable[[Path], object]]:
        """What writes each further file."""
        return {}

    @classmethod
    def _loaded(cls, folder: Path) -> dict[str, Any]:
        """Every field but the provenance."""
        return dict(load_tables(folder, cls.table_names()))


def found_instead(path: Path) -> str:
    """What is at a path that holds no result, or one of another kind, in words."""
    if not path.exists():
        return "nothing at this path"
    if not path.is_dir():
        return "a file"
    kinds = [kind for kind in Result.__subclasses__() if kind.is_in(path)]
    if kinds:
        return kinds[0].KIND.name
    if (path / MONITOR_FILE).is_file():
        return "the records of a run, which flaggeo trace reads"
    if holds_weights(path):  # as an analysis and the records of a run do, too
        return "a checkpoint"
    records = ", ".join(kind.KIND.record_file for kind in Result.__subclasses__())
    return f"none of {records}"


def _unreadable(folder: Path, error: Exception) -> ResultError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ResultError(f"{folder}: cannot read what is saved here: {reason}")
