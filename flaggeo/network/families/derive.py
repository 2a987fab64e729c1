"""Write the table of records: ``python -m flaggeo.network.families.derive``, or with model types to try these only."""

import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

from ..roles import ROLE_RECORDS
from .record import Record
from .table import TABLE, Table, dump

# Their names stand for those of all structures that are alike.
_BEST_KNOWN = ("llama", "bert", "gpt2", "mixtral", "t5", "bart", "deepseek_v3", "gemma2", "qwen3", "qwen3_moe")
# Of seconds of a processor that one model type may take: what else the machine does changes no table.
_LIMIT = 10


def main(names: list[str]) -> None:
    """Derive records, write them if they are all, and report.

    Parameters
    ----------
    names : list of str
        Of model types; all if empty.
    """
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    import transformers

    from .derivation import model_types

    tried = names or list(model_types())
    found, failed = derive_all(tried)
    merged = list(merge(found))
    text = dump(Table(transformers.__version__, tuple(merged), failed))
    if names:
        sys.stdout.write(text)
    else:
        TABLE.write_text(text)
    sys.stderr.write("".join(f"{line}\n" for line in report(found, failed)))


def derive_all(model_types: Iterable[str]) -> tuple[list[Record], dict[str, str]]:
    """Records of model types, and why some have none."""
    found: list[Record] = []
    failed: dict[str, str] = {}
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for model_type, result in pool.map(_derived, model_types, chunksize=4):
            if isinstance(result, str):
                failed[model_type] = result
            else:
                found += result
    return found, failed


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


def _derived(model_type: str) -> tuple[str, tuple[Record, ...] | str]:
    """Records of a model type, or the reason why there are none."""
    import torch
    from transformers.utils import logging

    from .derivation import derive

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    signal.signal(signal.SIGPROF, _interrupt)
    signal.setitimer(signal.ITIMER_PROF, _LIMIT)
    try:
        return model_type, derive(model_type)
    except Exception as error:  # of a model's own code: what it says is the reason
        return model_type, f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _interrupt(*_: object) -> None:
    raise TimeoutError(f"not finished in {_LIMIT} s")


if __name__ == "__main__":
    main(sys.argv[1:])
