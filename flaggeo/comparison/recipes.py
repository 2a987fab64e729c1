"""What other tools need to know of a change: which tensors it touched, and of which rank."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from ..checkpoint import CheckpointError
from ..results.comparison import Comparison
from .tensors import CHANGED


def to_mergekit(comparison: Comparison) -> str:
    """A configuration of mergekit that adds what changed to the base, and takes all else from it.

    Parameters
    ----------
    comparison : Comparison
        Of checkpoints, two or three.

    Returns
    -------
    configuration : str
        YAML. The weight of a fine-tuning is 1 for the tensors that it changed beyond storage precision, which are named
        one by one, and 0 for the others.

    Raises
    ------
    ValueError
        If nothing changed, the changes were not measured, a version is an adapter, which mergekit merges by itself, or
        a tensor has no difference to add: it has another shape, stands in one file only, or cannot be compared.
    CheckpointError
        If tensors could not be measured.

    References
    ----------
    https://github.com/arcee-ai/mergekit, on task arithmetic and on parameters with a filter.
    """
    _require_measured(comparison)
    provenance = comparison.provenance
    require_versions("mergekit", adapters=[provenance[one] for one in provenance["adapters"]])
    _require_differences(comparison)
    for failure in provenance["failed"]:
        raise CheckpointError(failure)
    lines = ["merge_method: task_arithmetic", f"base_model: {json.dumps(provenance['a'])}", "models:"]
    for version in dict.fromkeys(comparison.tensors["version"]):
        lines += [f"  - model: {json.dumps(provenance[version])}", "    parameters:", "      weight:"]
        rows = comparison.tensors[comparison.tensors["version"] == version]
        for name in rows["tensor"][rows["change"].isin(CHANGED)]:
            lines += [f"        - filter: {json.dumps(name)}", "          value: 1.0"]
        lines.append("        - value: 0.0")
    return "\n".join([*lines, "dtype: float32", ""])


def to_peft(comparison: Comparison) -> str:
    """The rank of every change of low rank, as the configuration of a LoRA of peft takes it.

    Parameters
    ----------
    comparison : Comparison
        Of two checkpoints with the names of Hugging Face.

    Returns
    -------
    settings : str
        JSON with ``r``, the commonest rank, ``target_modules`` and ``rank_pattern`` of ``peft.LoraConfig``. Other
        changes are left out, see `without_rank`.

    Raises
    ------
    ValueError
        If there is no change of low rank, or there are two fine-tunings.

    References
    ----------
    https://huggingface.co/docs/peft/package_reference/lora, on ``rank_pattern``.
    """
    _require_measured(comparison)
    require_versions("peft-rank-pattern", tuned=2 if "c" in comparison.provenance else 1)
    low = comparison.tensors[_has_rank(comparison.tensors)]
    if low.empty:
        raise ValueError("expected a change of low rank, found none that a LoRA could give")
    names = low["tensor"].str.removesuffix(".weight")
    modules = dict(zip(names, low["rank"].astype(int).tolist(), strict=True))
    commonest = Counter(modules.values()).most_common(1)[0][0]
    settings = {"r": commonest, "target_modules": list(modules), "rank_pattern": modules}
    return json.dumps(settings, indent=2) + "\n"


def without_rank(comparison: Comparison) -> str:
    """What `to_peft` leaves out, since no LoRA of a rank that is known gives it; empty if it has all changes."""
    rows = comparison.tensors[comparison.tensors["change"].isin([*CHANGED, "unknown"])]
    rows = rows[~_has_rank(rows)]
    return f"left out, as no LoRA of a known rank gives them: {_counted(rows)}" if len(rows) else ""


def _has_rank(rows: pd.DataFrame) -> "pd.Series[bool]":
    return (rows["change"] == "low_rank") & rows["tensor"].str.endswith(".weight")


def _counted(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    return f"{len(rows)} of the tensors, the first {first['tensor']!r} ({first['change'].replace('_', ' ')})"


def require_versions(tool: str, *, tuned: int = 1, adapters: Sequence[str] = ()) -> None:
    """Raise `ValueError` unless a tool takes so many fine-tunings, of which these are adapters."""
    if tool == "mergekit" and adapters:
        raise ValueError(f"{adapters[0]}: expected a merged checkpoint for mergekit, found a LoRA adapter")
    if tool == "peft-rank-pattern" and tuned > 1:
        raise ValueError("expected one fine-tuning to write the ranks of, found two")


def _require_measured(comparison: Comparison) -> None:
    """Raise unless something changed, and under names that other tools know."""
    if comparison.tensors["tensor"].str.startswith("blk.").any():
        raise ValueError(
            f"{comparison.provenance['a']}: expected the tensor names of Hugging Face, found those of GGUF"
        )
    if not comparison.tensors["change"].isin([*CHANGED, "unknown"]).any():
        found = "a saved analysis" if comparison.tensors.empty else "none"
        raise ValueError(f"expected a change of the checkpoint to write, found {found}")


def _require_differences(comparison: Comparison) -> None:
    """Raise unless every change is a difference of numbers, which is all that task arithmetic adds."""
    rows = comparison.tensors
    without = rows[rows["change"].isin(["reshaped", "added", "removed", "unknown"])]
    if without.empty:
        return
    tuned, base = comparison.provenance[without.iloc[0]["version"]], comparison.provenance["a"]
    raise ValueError(
        f"{tuned}: expected tensors that differ from those of {base} in their numbers alone, as mergekit adds "
        f"differences; found others: {_counted(without)}"
    )


#: What can be written, by the name of the tool and of what it takes.
RECIPES: Mapping[str, Callable[[Comparison], str]] = {"mergekit": to_mergekit, "peft-rank-pattern": to_peft}
