"""Watches a training run: records how the leading subspaces of its weights are aligned, every so many steps."""

import atexit
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import pandas as pd
from torch import distributed, nn

from ...analysis import circumstances
from ...display import Displayed
from ...network.modules import Example
from ...settings import Settings
from .continuing import require_same_run, require_same_weights
from .flat import flat_numbers
from .observer import Observer
from .records import REFERENCE_FILE, Records, is_monitored, numbers_in, read_provenance
from .reference import load_moments, save_moments
from .subject import Subject

#: Takes numbers by name, and the step.
Log = Callable[[Mapping[str, float], int], object]

# With fewer records than this nothing is left of a run once every second one is removed.
_LEAST_RECORDS = 4


class Monitor(Displayed):
    """Record how alignment arises in a run, from its model in memory.

    Call `step` after each step of the optimizer. Nothing of the run changes: the model is only read, no hook is set, no
    random number of torch is drawn, and the numbers of the run are the same bit for bit.

    Parameters
    ----------
    model : nn.Module
        Whatever `flaggeo.load` reads; compiled or wrapped for data parallelism, its inside is read. In a process group
        only the process of rank 0 records, and a monitor does nothing elsewhere.
    folder : str or Path
        New or empty, or that of the run which continues: each record is a folder of Parquet files in it.
    every : int, optional
        Steps of the optimizer from one record to the next.
    rank : int, optional
        Leading directions of each weight, as `Settings.rank`.
    roles, layers, fold_norms
        As for `analyze`.
    heads, experts : bool, optional
        Whether every attention head, and every expert of a mixture, is watched as a weight of its own. They are
        numbered in each layer on its own, so that they have drift, spectra, interfaces and pairs, and no continuity.
    updates : bool, optional
        Whether to measure by what each weight moved since the record before, too. It takes a copy of the weights.
    gradients : bool, optional
        Whether to measure gradients, too: `step` has to come before they are set to zero.
    pairs : sequence of (str, str), optional
        Subspaces of one space whose overlap is recorded: ``("layers.0.down.write", "layers.1.q.read")``.
    reference : int, optional
        Drift is measured from the first record at this step or after it; by default from the first of all.
    start : int, optional
        Steps that the model has made so far, where a run continues. Records up to this step stay, and the drift goes on
        from their reference; later ones are of steps that are made again, and are removed.
    budget : int, optional
        Cells of tables that may be on disk at once. Where they are used up, every second record is removed and `every`
        doubles, with a warning.
    log : callable, optional
        Called with each record as flat numbers by name, means over the layers, and the step.
    example
        As for `load`, where a module is of no known model type.

    Raises
    ------
    ValueError
        If an option is out of range or names what is not there, the budget is too small for four records, the
        parameters are spread over processes, or the records in the folder are of another model, other options or other
        weights at that step.
    FileExistsError
        If something is in the folder, and it is no run that continues.
    CheckpointError
        As `load` raises.
    ResultError
        If what is known of a run that continues is damaged.

    See Also
    --------
    trace : The same of saved checkpoints, with all nulls.

    Notes
    -----
    A record is written as a whole when it is made, so that a killed run leaves all that it had; `close`, a context
    manager or the end of the interpreter adds one of the last step. A step that cannot be written, and weights that are
    not finite, are left out: the run goes on. docs/monitor.md has all columns, the cost and what a budget holds.

    Examples
    --------
    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with TemporaryDirectory() as folder, Monitor(model, folder, every=2, rank=2) as monitor:
    ...     for _ in range(4):
    ...         model(torch.ones(1, 6)).sum().backward()
    ...         optimizer.step()
    ...         monitor.step()
    ...     monitor.recorded
    [0, 2, 4]
    """

    def __init__(
        self,
        model: nn.Module,
        folder: str | Path,
        every: int = 100,
        *,
        rank: int = 8,
        roles: Sequence[str] | None = None,
        layers: Sequence[int] | None = None,
        fold_norms: bool = False,
        heads: bool = False,
        experts: bool = False,
        updates: bool = True,
        gradients: bool = False,
        pairs: Sequence[tuple[str, str]] = (),
        reference: int = 0,
        start: int = 0,
        budget: int = 5_000_000,
        log: Log | None = None,
        example: Example | None = None,
    ) -> None:
        self._every, self._first, self._step, self._log = every, start, start, log
        if every < 1 or start < 0:
            raise ValueError(
                f"expected at least 1 step between records and a start of at least 0; got {every}, {start}"
            )
        self._folder = Path(folder)
        self._records: Records | None = None
        self._cells: Mapping[int, int] = {}
        if not _is_first_process():
            return
        started = datetime.now(UTC)
        options = {"rank": rank, "roles": roles, "layers": layers, "fold_norms": fold_norms}
        measure = ("continuity", "interfaces", *(["heads"] if heads else []))
        settings = Settings(**options, measure=measure)  # type: ignore[arg-type]
        subject = Subject(model, settings, example, experts=experts)
        self._observer = Observer(
            subject, settings, updates=updates, gradients=gradients, pairs=pairs, reference=reference
        )
        self._provenance = {
            "family": subject.network.family,
            "location": subject.network.checkpoint.location,
            "stored": ", ".join(subject.dtypes),
            "weights": {weight.name: [weight.target.dim, weight.source.dim] for weight in subject.weights},
            "remarks": [*subject.network.remarks, *settings.remarks(subject.weights)],
            "every": every,
            "heads": heads,
            "experts": experts,
            "updates": updates,
            "gradients": gradients,
            "pairs": [list(pair) for pair in pairs],
            "reference": reference,
            "budget": budget,
        } | circumstances(settings, subject.device, started)
        goes_on = start > 0 and is_monitored(folder)
        if goes_on:
            self._go_on(subject)
        tables = self._observer.measure(start)
        # Updates, gradients and what has moved are not there yet.
        expected = numbers_in(tables) * (1 + updates + gradients) + tables["drift"].size
        if budget < _LEAST_RECORDS * expected:
            least = _LEAST_RECORDS * expected
            raise ValueError(f"budget: expected at least {least} numbers, of {_LEAST_RECORDS} records; got {budget}")
        if goes_on:
            require_same_weights(self._folder, start, tables["weights"])
        self._budget, self._referenced = budget, 0
        self._records = Records(self._folder, self._provenance, continued=start if goes_on else None)
        self._cells = self._records.cells
        if self._records.lost:
            lost = ", ".join(map(str, self._records.lost))
            self._tell(f"records that cannot be read were removed, of the steps {lost}")
        self._first = min(self._records.steps, default=start)
        self._process, self._at_exit = os.getpid(), _closing(weakref.ref(self))
        atexit.register(self._at_exit)
        if start not in self._records.steps:
            self._keep(tables)

    @property
    def recorded(self) -> list[int]:
        """Steps of which there are records; none where nothing is recorded, or no more."""
        return [] if self._records is None else list(self._records.steps)

    def step(self) -> None:
        """Count a step of the optimizer, and record it if it is one of those."""
        self._step += 1
        if self._records is not None and (self._step - self._first) % self._every == 0:
            self._record()

    def close(self) -> None:
        """Record the last step, if it is not recorded yet, and be done: later steps are not recorded."""
        records = self._records
        if records is None:
            return
        try:
            if os.getpid() == self._process and self._step > max(records.steps, default=-1):
                self._keep(self._observer.measure(self._step))  # gradients may be gone
        finally:
            if os.getpid() == self._process:
                with self._told():
                    records.note(self._provenance | {"ended": True, "finished": datetime.now(UTC).isoformat()})
            self._records = None
            atexit.unregister(self._at_exit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            self._tell(f"not recorded: {failure}")  # what ended the run is what a person has to see

    def _facts(self) -> Mapping[str, object]:
        steps = self._cells.keys()  # still there once it is closed
        return {"folder": str(self._folder), "last_step": max(steps, default=None), "records": len(steps)}

    def _go_on(self, subject: Subject) -> None:
        """Take over what the records of a run that continues say of it."""
        noted = read_provenance(self._folder)
        require_same_run(self._folder, noted, self._provenance)
        reference = load_moments(self._folder / REFERENCE_FILE, subject.weights)
        self._observer.first = {name: one for name, one in reference.items() if one.step <= self._step}
        spacing, continued = noted.get("spacing"), noted.get("continued")
        if isinstance(spacing, int):
            self._every = max(self._every, spacing)
        before = [one for one in continued if isinstance(one, int)] if isinstance(continued, list) else []
        self._provenance |= {"spacing": self._every, "continued": [*before, self._step]}

    def _record(self) -> None:
        tables = self._observer.measure(self._step)
        if self._observer.lacks_gradients:
            self._tell("no weight has a gradient: call step() before they are set to zero")
        self._keep(tables)

    def _keep(self, tables: Mapping[str, pd.DataFrame]) -> None:
        assert self._records is not None
        with self._told():
            if len(self._observer.first) > self._referenced:
                save_moments(self._records.reference_file, self._observer.first)
                self._referenced = len(self._observer.first)
            self._records.write(self._step, tables)
            cells = self._records.cells.values()
            if sum(cells) + max(cells) > self._budget:
                self._thin()
        if self._log is not None:
            self._log(flat_numbers(tables), self._step)

    def _thin(self) -> None:
        assert self._records is not None
        self._every *= 2
        self._provenance["spacing"] = self._every
        self._records.note(self._provenance)
        for step in self._records.steps:
            if (step - self._first) % self._every:
                self._records.drop(step)
        self._tell(f"the budget is used up: every second record was removed, the next are {self._every} steps apart")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A disk that is full is no reason to end a run."""
        try:
            yield
        except OSError as error:
            self._tell(f"not recorded: {error}")

    def _tell(self, line: str) -> None:
        warnings.warn(f"flaggeo.Monitor, step {self._step}: {line}", stacklevel=4)


def _is_first_process() -> bool:
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def _closing(monitor: "weakref.ref[Monitor]") -> Callable[[], None]:
    """Closes a monitor that is still there, without keeping it and its model."""

    def close() -> None:
        watching = monitor()
        if watching is not None:
            watching.close()

    return close
