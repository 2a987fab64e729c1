"""Which checkpoints a run has, in what order, and what their steps are called."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint import checkpoints_in
from ..comparison.matching import Source

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Step:
    """One checkpoint of a run.

    Attributes
    ----------
    number : int
        The training step, or the place in the order given where names tell none.
    label : str
        Unique in the run.
    source : Source
    """

    number: int
    label: str
    source: Source


def steps_of(checkpoints: str | Path | Sequence[Source], numbers: Sequence[int] | None = None) -> list[Step]:
    """Checkpoints of a run in the order of training.

    Parameters
    ----------
    checkpoints : str, Path or sequence of Source
        A folder of which the numbered subfolders are checkpoints, or the checkpoints themselves.
    numbers : sequence of int, optional
        Training step of each; by default the number in its name.

    Returns
    -------
    steps : list of Step
        Ascending in their numbers. Of several numbers in the names it is the last one that tells all checkpoints
        apart; a first checkpoint without any, where all others have one, is step 0. Where names do not tell, the
        order is the one given and the numbers count from 0.

    Raises
    ------
    ValueError
        If there are fewer than two, or the numbers given are not one each and all different.
    """
    sources: list[Source] = [checkpoints] if isinstance(checkpoints, str | Path) else list(checkpoints)
    where = ""
    if len(sources) == 1 and isinstance(sources[0], str | Path) and not Path(sources[0]).is_file():
        where = f" in {sources[0]}"
        sources = list(checkpoints_in(Path(sources[0])))
    if len(sources) < 2:
        raise ValueError(
            f"trace: expected at least 2 checkpoints, or a folder with numbered ones such as checkpoint-100; "
            f"found {len(sources) or 'none'}{where}"
        )
    names = _names(sources)
    if numbers is not None and (len(numbers) != len(sources) or len(set(numbers)) < len(numbers)):
        raise ValueError(
            f"trace: expected {len(sources)} different steps, one a checkpoint; found {', '.join(map(str, numbers))}"
        )
    known = numbers if numbers is not None else numbers_in(names) or range(len(names))
    labels = names if len(set(names)) == len(names) else [f"{name} ({place})" for place, name in enumerate(names)]
    steps = [Step(number, label, source) for number, label, source in zip(known, labels, sources, strict=True)]
    return sorted(steps, key=lambda step: step.number)


def numbers_in(names: Sequence[str]) -> list[int] | None:
    """The number in each name that tells it from all others; None where there is none such.

    Examples
    --------
    >>> numbers_in(["70m-step900", "70m-step1000"])
    [900, 1000]
    >>> numbers_in(["base", "checkpoint-100", "checkpoint-200"])
    [0, 100, 200]
    >>> numbers_in(["before", "after"])
    """
    found = [[int(number) for number in _NUMBER.findall(name)] for name in names]
    if len(found) > 2 and not found[0]:
        later = numbers_in(names[1:])
        return [0, *later] if later and min(later) > 0 else None
    if len({_NUMBER.sub("0", name) for name in names}) > 1:
        return None
    columns = [list(column) for column in zip(*found, strict=True)]
    return next((column for column in reversed(columns) if len(set(column)) == len(column)), None)


def _names(sources: Sequence[Source]) -> list[str]:
    """Name of each: of its file or folder, or of the folder around it where all files are called the same."""
    paths = [Path(source) if isinstance(source, str | Path) else None for source in sources]
    names = [
        f"checkpoint {place}" if path is None else path.stem if path.is_file() else path.resolve().name
        for place, path in enumerate(paths)
    ]
    if len(set(names)) == 1:
        return [path.resolve().parent.name if path else name for path, name in zip(paths, names, strict=True)]
    return names
