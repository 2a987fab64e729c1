"""The options that commands share; those of `Settings` are made from its fields."""

import inspect
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from enum import StrEnum
from typing import Annotated, Any

import typer

from ..settings import Settings


class OutputFormat(StrEnum):
    """How results are printed on standard output."""

    TABLE = "table"
    JSON = "json"


Device = Annotated[str, typer.Option(help="Compute on this device: cpu, cuda, cuda:1 ... or auto.")]
Format = Annotated[OutputFormat, typer.Option("--format", help="Print what is found in this form.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print more detail, and a traceback on errors.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors (and JSON, if requested).")]
QuietPath = Annotated[bool, typer.Option("--quiet", "-q", help="Do not print the path of the file that is written.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Measure the layers in so many processes.")]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Measure the layers on the Dask cluster of this scheduler, tcp://host:8786."),
]
HeadsPerLayer = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Number of query heads in each layer, where the settings do not tell it."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is already there.")]


def settings_parameters() -> list[inspect.Parameter]:
    """One parameter of a command for each field of `Settings`; it is None where the option is not given."""
    return [
        inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(option))
        for option in fields(Settings)
    ]


def given_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields of `Settings` that are among a command's arguments and were given, for its checks to read."""
    return {option.name: arguments[option.name] for option in fields(Settings) if arguments[option.name] is not None}


@dataclass(frozen=True)
class _Kind:
    """How an option of one type is written on the command line."""

    written: type
    metavar: str | None = None


_KINDS = {
    int: _Kind(int),
    bool: _Kind(bool),
    tuple[str, ...]: _Kind(str, "NAME,..."),
    tuple[int, ...]: _Kind(str, "RANGE,..."),
}


def _kind(option: "Field[Any]") -> _Kind:
    """Kind of a field, which may also be None for all."""
    return next(kind for known, kind in _KINDS.items() if option.type in (known, known | None))


def _annotation(option: "Field[Any]") -> Any:
    """What typer is told of a field."""
    kind, name = _kind(option), option.name.replace("_", "-")
    flags = [f"--{name}/--no-{name}" if kind.written is bool else f"--{name}", option.metadata["short"]]
    shown = typer.Option(
        *filter(None, flags), help=option.metadata["help"], metavar=kind.metavar, show_default=_default(option)
    )
    return Annotated[kind.written | None, shown]


def _default(option: "Field[Any]") -> str:
    """The default as it would be written on the command line."""
    if option.default is None:
        return "all"
    if isinstance(option.default, bool):
        return f"{'' if option.default else 'no-'}{option.name.replace('_', '-')}"
    return ",".join(option.default) if isinstance(option.default, tuple) else str(option.default)
