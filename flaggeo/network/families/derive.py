"""Write the table of records: ``python -m flaggeo.network.families.derive``, or with model types to try these only."""

import gc
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import repeat
from multiprocessing import get_context
from typing import Any

from ..roles import ROLE_RECORDS
from .record import Record
from .table import TABLE, Table, dump

# Their names stand for those of all structures that are alike.
_BEST_KNOWN = ("llama", "bert", "gpt2", "mixtral", "t5", "bart", "deepseek_v3", "gemma2", "qwen3", "qwen3_moe")
# Of seconds of a processor that one model type may take, so that what else the machine does changes no table, and of
# bytes: a tiny model needs a tenth of them.
_LIMIT = 8
_MEMORY = 2**32


def main(names: list[str], config: Mapping[str, Any] | None = None) -> None:
    """Derive records, write them if they are all, and report.

    Parameters
    ----------
    names : list of str
        Of model types; all if empty.
    config : mapping, optional
        Settings of a checkpoint, if there is one name: see `derive`.
    """
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    os.environ["CUDA_VISIBLE_DEVICES"] = (
        ""  # tiny models are for the CPU, and forking its random state would start CUDA
    )
    with redirect_stdout(sys.stderr):  # where the code of models may say something
        results = list(_derived_each(names, config))
    found = [record for result in results for record in result.records]
    failed = {result.model_type: result.reason for result in results if not result.records}
    switches = {result.model_type: result.switches for result in results if result.switches}
    merged = list(merge(found))
    text = dump(Table(version("transformers"), tuple(merged), failed, switches))
    if names:
        sys.stdout.write(text)
    else:
        TABLE.write_text(text)
    sys.stderr.write("".join(f"{line}\n" for line in report(found, failed)))


@dataclass(frozen=True)
class _Result:
    """Records of a model type, or the reason why there are none, and what it switches on or off by default."""

    model_type: str
    records: tuple[Record, ...] = ()
    reason: str = ""
    switches: Mapping[str, bool] = field(default_factory=dict)


def _derived_each(names: Sequence[str], config: Mapping[str, Any] | None) -> Iterator[_Result]:
    if len(names) == 1:  # which needs no other process
        yield _derived(names[0], config)
        return
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_derived_cleanly, names or pool.submit(_every_type).result(), repeat(config), chunksize=4)


def _every_type() -> Sequence[str]:
    from .derivation import model_types

    return model_types()


def _derived_cleanly(model_type: str, config: Mapping[str, Any] | None) -> _Result:
    """The same, with one search for garbage at the end: most objects are the library's own modules, which stay."""
    gc.disable()
    result = _derived(model_type, config)
    gc.collect()
    gc.freeze()
    return result


def merge(records: Iterable[Record]) -> Iterator[Record]:
    """Records in which model types of one structure are together."""
    alike: list[list[Record]] = []
    for record in sorted(records, key=lambda record: (record.model_types[0] not in _BEST_KNOWN, record.model_types)):
        for members in alike:
            if replace(record, model_types=members[0].model_types) == members[0]:
                members.append(record)
                break
        else:
            alike.append([record])
    for members in alike:
        yield replace(members[0], model_types=tuple(name for record in members for name in record.model_types))


def report(found: Iterable[Record], failed: dict[str, str]) -> Iterator[str]:
    """What was found, in lines."""
    found = list(found)
    counts = Counter(_heads(record) for record in found)
    model_types = {model_type for record in found for model_type in record.model_types}
    yield from (f"{model_type}: {reason}" for model_type, reason in failed.items())
    yield f"{len(model_types) + len(failed)} model types, {len(model_types)} derived, {len(failed)} failed"
    yield f"{len(found)} structures before equal ones are put together"
    yield ", ".join(f"{word}: {count}" for word, count in counts.most_common())


def _heads(record: Record) -> str:
    attending = {piece.tower for piece in record.saved.pieces if ROLE_RECORDS[piece.role].heads}
    missing = [tower.name for tower in record.towers if tower.name in attending and tower.heads is None]
    return "heads missing" if missing else "heads exact" if attending else "no attention"


def _derived(model_type: str, config: Mapping[str, Any] | None = None) -> _Result:
    import torch
    from transformers.utils import logging

    from .derivation import derive, model_types, usual_switches

    if model_type not in model_types():
        return _Result(model_type, reason="transformers has it for none of the tasks whose models are derived")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with _bounded():
            return _Result(model_type, derive(model_type, config), switches=usual_switches(model_type))
    except Exception as error:  # of a model's own code: what it says is the reason
        return _Result(model_type, reason=f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])


@contextmanager
def _bounded() -> Iterator[None]:
    """Bound the time and memory of what is done inside, where the system can."""
    if sys.platform == "win32":
        yield
        return
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_DATA)
    if before[0] == resource.RLIM_INFINITY or before[0] > _MEMORY:
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, before[1]))
    signal.signal(signal.SIGPROF, _interrupt)
    signal.setitimer(signal.ITIMER_PROF, _LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _interrupt(*_: object) -> None:
    raise TimeoutError(f"not finished in {_LIMIT} s")


if __name__ == "__main__":
    main(sys.argv[1:])
