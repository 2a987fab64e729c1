"""Whether records in a folder are of the run that goes on there: of its model, its options and its weights then."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...results.storage import ResultError
from .records import read_record

# Options of a monitor that its records depend on, beside the settings.
_OPTIONS = ("every", "heads", "experts", "updates", "gradients", "pairs", "reference")
# Of norms, relative: storing weights in 16 bits changes them by less, and other first weights differ by more somewhere.
_SAME_NORM = 1e-3


def require_same_run(folder: Path, noted: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise unless the records in a folder are of a model of the same weights, with the same options.

    Parameters
    ----------
    folder : Path
    noted : mapping
        Provenance of the records, as it was read.
    now : mapping
        That of the monitor that goes on.

    Raises
    ------
    ValueError
        If a weight or an option differs.
    """
    there, here = ({name: one.get(name) for name in _OPTIONS} | _mapping(one, "settings") for one in (noted, now))
    for name, asked in here.items():
        if asked != there.get(name):
            raise ValueError(
                f"{folder}: its records were made with {name}={there.get(name)!r}; got {asked!r}: give the same, or "
                "choose another folder"
            )
    there, here = _mapping(noted, "weights"), _mapping(now, "weights")
    for name in there | here:
        if there.get(name) != here.get(name):
            shapes = [f"of shape {one[name]}" if name in one else "missing" for one in (there, here)]
            raise ValueError(
                f"{folder}: has the records of another model: there {name} is {shapes[0]}, here it is {shapes[1]}"
            )


def require_same_weights(folder: Path, step: int, measured: pd.DataFrame) -> None:
    """Raise unless weights have the norms that were recorded at the step that they are said to be of, if it was.

    Raises
    ------
    ValueError
        If the norm of one differs by more than storing it in 16 bits makes of it.
    """
    try:
        recorded = read_record(folder, step)["weights"]
    except (FileNotFoundError, ResultError):
        return
    both = measured[["name", "frobenius_norm"]].merge(
        recorded[["name", "frobenius_norm"]], on="name", suffixes=("", "_there")
    )
    norms, there = both["frobenius_norm"].to_numpy(), both["frobenius_norm_there"].to_numpy()
    for place in np.flatnonzero(np.abs(norms - there) > _SAME_NORM * there)[:1]:
        raise ValueError(
            f"{folder}: expected the weights of step {step} that are recorded there; {both['name'][place]} has norm "
            f"{norms[place]:.5g}, recorded is {there[place]:.5g}: give the step of this model as start, or choose "
            "another folder"
        )


def _mapping(provenance: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = provenance.get(name)
    return found if isinstance(found, dict) else {}
