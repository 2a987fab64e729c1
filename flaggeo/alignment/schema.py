"""What the columns of a table are called, hold and mean: said once, and read by the table and by its documentation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

#: A table, or the columns of one by their names: values of equal length, or one for all rows.
Columns = Mapping[str, Any] | pd.DataFrame


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name : str
    dtype : str
        That of pandas; the nullable ``Int64`` where numbers may be missing.
    meaning : str
        A sentence in Markdown, without its full stop.
    """

    name: str
    dtype: str
    meaning: str


@dataclass(frozen=True)
class Schema:
    """The columns of one table.

    Attributes
    ----------
    row : str
        What one row is about: "One row for each weight".
    columns : tuple of Column
    """

    row: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """Names of the columns in order."""
        return [column.name for column in self.columns]

    def frame(self, data: Iterable[Mapping[str, Any]] | Columns = ()) -> pd.DataFrame:
        """Table of these columns and types, from rows or from columns; also where there are no rows.

        Columns that `data` lacks are missing values, and those that are not in the schema are left out.
        """
        table = pd.DataFrame(data if isinstance(data, Mapping | pd.DataFrame) else list(data), columns=self.names)
        # To convert all columns at once takes several times as long, also those that have their type.
        for column in self.columns:
            dtype: Any = column.dtype
            if str(table[column.name].dtype) != dtype:
                table[column.name] = table[column.name].astype(dtype)
        return table

    def concatenated(self, parts: Iterable[Columns]) -> pd.DataFrame:
        """Rows of several parts one after the other; empty ones, and none at all, are allowed."""
        filled = [table for table in map(pd.DataFrame, parts) if len(table)]
        return self.frame(pd.concat(filled, ignore_index=True) if filled else ())
