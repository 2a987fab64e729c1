"""What an analysis found, in sentences with their numbers."""

import numpy as np
import pandas as pd

from ..analysis import Analysis

# Effect sizes (value - chance) / (1 - chance) from which a mean is called carried over, and below which it
# is called close to chance: words for the reader, not tests.
CARRIED = 0.15
CLOSE_TO_CHANCE = 0.08
# A first vector on fewer than this share of its coordinates is said to live on a few channels.
FEW_CHANNELS = 0.05

_VERBS = {"read": ("reading", "right"), "write": ("writing", "left")}


def findings(analysis: Analysis) -> list[str]:
    """Plain sentences, the most important first.

    Parameters
    ----------
    analysis : Analysis

    Returns
    -------
    sentences : list of str
        Plain text: names from the checkpoint are not escaped.
    """
    sentences = _continuity(analysis.summary) + _distance(analysis) + _strongest(analysis.pairs)
    return sentences or ["Too few weights share a space here to compare anything."]


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _with_values(rows: pd.DataFrame) -> str:
    return _listed([f"{row.role} {row.abs_cos_1:.2f}" for row in rows.itertuples()])


def _continuity(summary: pd.DataFrame) -> list[str]:
    if summary.empty:
        return []
    shared = summary[summary["shared_space"]]
    carried = shared["effect"] >= CARRIED
    concentrated = shared["channels"] < FEW_CHANNELS * shared["dim"]
    sentences = []
    for side, (doing, which) in _VERBS.items():
        rows = shared[carried & ~concentrated & (shared["side"] == side)]
        if len(rows):
            sentences.append(
                f"The main direction of {doing} carries over from layer to layer: mean |cos| of neighbouring first "
                f"{which} singular vectors is {_with_values(rows)}, where unrelated weights give "
                f"{rows['null_mean'].iloc[0]:.3f}."
            )
        rows = shared[carried & concentrated & (shared["side"] == side)]
        if len(rows):
            look, live = ("look", "vectors live") if len(rows) > 1 else ("looks", "vector lives")
            channels = _listed([f"{row.channels:.0f}" for row in rows.itertuples()])
            sentences.append(
                f"In {doing}, {_with_values(rows)} {look} continuous too, but the first {which} singular {live} on "
                f"about {channels} of {rows['dim'].iloc[0]} channels: a few outlier channels can produce such numbers "
                "by themselves, so do not take them for alignment."
            )
    near = shared[shared["effect"] < CLOSE_TO_CHANCE]
    if len(near):
        sentences.append(f"Close to chance from layer to layer: {_with_values(near)}.")
    return sentences


def _distance(analysis: Analysis) -> list[str]:
    """Compare neighbours with layers half the network apart: a smooth path, or one global direction."""
    whole = analysis.weights[analysis.weights["head"].isna() & analysis.weights["layer"].notna()]
    half = max(2, whole["layer"].nunique() // 2)
    place = {
        f"{name}.{side}": f"{role}.{side}"
        for name, role in zip(whole["name"], whole["role"], strict=True)
        for side in _VERBS
    }
    pairs = analysis.pairs
    alike = pairs["source"].map(place) == pairs["target"].map(place)
    near, far = pairs[alike & (pairs["lag"] == 1)], pairs[alike & (pairs["lag"] >= half)]
    if near.empty or far.empty:
        return []
    by_near, by_far = near["adjusted_overlap"].mean(), far["adjusted_overlap"].mean()
    shape = (
        "the subspaces turn gradually with depth rather than sharing one direction"
        if by_far < by_near / 2
        else "much of what neighbours share is shared by the whole network"
    )
    return [
        f"Of what a role reads or writes with its leading subspace, neighbouring layers share {by_near:.0%} beyond "
        f"chance, layers {half} or more apart {by_far:.0%}: {shape}."
    ]


def _strongest(pairs: pd.DataFrame) -> list[str]:
    sentences = []
    for kind, what in (
        ("write-read", "The writing that meets a later reading most closely is {source} into {target}"),
        ("read-read", "The two readings closest to each other are {source} and {target}"),
    ):
        rows = pairs[(pairs["kind"] == kind) & np.isfinite(pairs["adjusted_overlap"])]
        if len(rows):
            best = rows.loc[rows["adjusted_overlap"].idxmax()]
            sentences.append(
                f"{what.format(source=best['source'], target=best['target'])}: overlap {best['overlap']:.2f}, "
                f"chance {best['null_mean']:.3f}."
            )
    return sentences
