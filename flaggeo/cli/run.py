"""What the commands that measure have in common: their options, the folder that they fill, and what they print."""

import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..display import printable
from .inspect import print_remarks
from .options import (
    Device,
    Format,
    Jobs,
    OutputFormat,
    Overwrite,
    Quiet,
    Scheduler,
    Verbose,
    given_settings,
    settings_parameters,
)
from .terminal import chosen_device, full_disk_named, progress_bar, scratch_beside, standard_output, usage_errors

if TYPE_CHECKING:
    from rich.console import Console

    from ..results import Result

    R = TypeVar("R", bound=Result)

_Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Write the page and the tables to this folder.",
        show_default="named after the input",
    ),
]


@dataclass(frozen=True)
class Run:
    """A run of a command that measures something, and saves and prints what it finds.

    Attributes
    ----------
    folder : Path
        What is found is saved there.
    is_default : bool
        Whether the folder has the name that a command gives where ``--output`` does not.
    arguments : dict
        The options of `Settings` as they stand on the command line, None where they were not given.
    device, jobs, scheduler, output_format, quiet, verbose, overwrite
        The options of these names.
    saves : bool, optional
        Whether the folder is written at all.
    """

    folder: Path
    is_default: bool
    arguments: dict[str, Any]
    device: str
    jobs: int
    scheduler: str | None
    output_format: OutputFormat
    quiet: bool
    verbose: bool
    overwrite: bool
    saves: bool = True

    def options(self, kind: "type[Result]") -> dict[str, Any]:
        """Options that were given, once it is clear that they make sense and that the folder can take the result."""
        from ..settings import Settings

        with usage_errors():
            try:
                if self.saves:
                    kind.require_replaceable(self.folder, overwrite=self.overwrite)
            except FileExistsError as error:  # which names the parameter of `Result.save`
                raise FileExistsError(str(error).replace("overwrite=True", "--overwrite")) from None
            options = given_settings(self.arguments)
            chosen_device(self.device)
            checked = Settings(**options)
        return {name: getattr(checked, name) for name in options}

    def measured(self, measure: "Callable[..., R]", sources: Iterable[str] = ()) -> "R":
        """Measure what is in the sources and save; an interrupted run leaves what it has done for the next one."""
        from ..executors import executor_of
        from ..results.lock import alone_in
        from ..results.scratch import MEASURED_AGAIN, STARTED_AFRESH

        remote = any(not Path(source).exists() for source in sources)
        with (
            full_disk_named(self.folder),
            alone_in(self.folder),
            progress_bar(self.quiet, "reading headers" * remote) as show,
            scratch_beside(self.folder) as scratch,
            executor_of(self.jobs, self.scheduler) as executor,
        ):
            device = chosen_device(self.device)
            found = measure(device=device, progress=show, scratch=scratch, executor=executor)
            if self.saves:
                show("page", 0, 1)
                found.save(self.folder, overwrite=self.overwrite)
        print_remarks(
            [one for one in found.provenance["remarks"] if one in (STARTED_AFRESH, MEASURED_AGAIN)], self.quiet
        )
        return found

    def tell(
        self, found: "R", tables: Iterable[str], show: "Callable[[Console, R], None]", *, sentences: bool = True
    ) -> None:
        """Print what was found: as JSON with these tables, or as `show` does, with the findings in sentences below."""
        if self.output_format is OutputFormat.JSON:
            findings = [finding.as_dict() for finding in found.findings]
            record = {"output": str(self.folder), "schema_version": found.KIND.schema_version}
            record |= {"provenance": dict(found.provenance), "findings": findings}
            record |= {name: json.loads(getattr(found, name).to_json(orient="records")) for name in tables}
            typer.echo(json.dumps(record, indent=2))
        elif not self.quiet:
            console = standard_output()
            show(console, found)
            for finding in found.findings if sentences else ():
                console.print(printable(f"- {finding}"))
            page = self.folder / found.KIND.page_file
            console.print(f"\ntables: {self.folder}\npage:   {page}", soft_wrap=True)


def measuring(name: Callable[..., str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a run in place of its last parameter, ``run``.

    Parameters
    ----------
    name : callable
        Takes what the command reads and gives the name of the folder that is filled by default.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        *read, _ = inspect.signature(command).parameters.values()

        @wraps(command, assigned=("__name__", "__doc__"))
        def called(
            *,
            output: _Output = None,
            device: Device = "cpu",
            jobs: Jobs = 1,
            scheduler: Scheduler = None,
            output_format: Format = OutputFormat.TABLE,
            quiet: Quiet = False,
            verbose: Verbose = False,
            overwrite: Overwrite = False,
            **arguments: Any,
        ) -> None:
            sources = {source.name: arguments.pop(source.name) for source in read}
            folder = output or Path(name(**sources))
            options = (device, jobs, scheduler, output_format, quiet, verbose, overwrite)
            run = Run(folder, output is None, arguments, *options)
            command(**sources, run=run)

        output, *others, _ = inspect.signature(called, follow_wrapped=False).parameters.values()
        vars(called)["__signature__"] = inspect.Signature([*read, output, *settings_parameters(), *others])
        return called

    return decorate


def stem(source: str) -> str:
    """What a path or a repository is called for people."""
    path = Path(source)
    return path.stem if path.is_file() else path.name or path.resolve().name
