"""Whether the geometry of a model's weights predicts what its heads and layers do."""

import numpy as np
import pandas as pd

from ...results.analysis import Analysis
from .correlation import Estimate, mean_difference, rank_correlation
from .effects import Effects

#: Every prediction by name, and what the estimate is of.
PREDICTIONS = {
    "repeated_heads": "rank correlation of a head's largest output overlap with the loss without it",
    "repeated_heads_within": "rank correlation of the two within layers",
    "repeated_heads_matched": "loss without a head that shares its outputs, minus that without a matched head, in nats",
    "similar_layers_left_out": "rank correlation of a layer's similarity to the one before with the loss without it",
    "similar_layers_replaced": "rank correlation of that similarity with the loss with the layer before in its place",
    "influence_left_out": "rank correlation of block influence, which needs a text, with the loss without the layer",
    "influence_replaced": "rank correlation of block influence with the loss with the layer before in its place",
    "query_links": "rank correlation of write-read overlap (queries) with the movement of the later head",
    "query_links_within": "rank correlation of the two within pairs of layers (queries)",
    "key_links": "rank correlation of write-read overlap (keys) with the movement of the later head",
    "key_links_within": "rank correlation of the two within pairs of layers (keys)",
    "value_links": "rank correlation of write-read overlap (values) with the movement of the later head",
    "value_links_within": "rank correlation of the two within pairs of layers (values)",
}
# Excess from which two heads are said to share their output subspace.
_SHARED = 0.3


def predictions(analysis: Analysis, effects: Effects, *, seed: int = 0) -> dict[str, Estimate]:
    """Hold the subspaces of a model against what it loses without its heads and layers.

    Parameters
    ----------
    analysis : Analysis
        Of the same model, with heads, pairs and structure.
    effects : Effects
    seed : int, optional
        Of the bootstrap.

    Returns
    -------
    predictions : dict of str to Estimate
        By the names of `PREDICTIONS`.
    """
    return _repeated_heads(analysis, effects, seed) | _layers(analysis, effects, seed) | _links(analysis, effects, seed)


def _repeated_heads(analysis: Analysis, effects: Effects, seed: int) -> dict[str, Estimate]:
    """Whether a head whose outputs another head has too is missed less."""
    pairs = analysis.heads[analysis.heads["kind"] == "OO"]
    ends = [
        pairs[[f"{end}_layer", f"{end}_head", "overlap_excess"]].set_axis(["layer", "head", "excess"], axis=1)
        for end in ("source", "target")
    ]
    heads = pd.concat(ends).groupby(["layer", "head"])["excess"].max().reset_index()
    heads["rise"] = effects.without_head[heads["layer"], heads["head"]]
    weights = analysis.weights[analysis.weights["role"] == "o"]
    norms = weights[["layer", "head", "frobenius_norm"]].dropna().astype({"layer": int, "head": int})
    heads = heads.merge(norms, on=["layer", "head"])
    matched, units = _matched(heads), heads.index.to_frame(name="head")
    return {
        "repeated_heads": rank_correlation(heads["excess"], heads["rise"], units, seed=seed),
        "repeated_heads_within": rank_correlation(
            heads["excess"], heads["rise"], units, within=heads["layer"], seed=seed
        ),
        "repeated_heads_matched": mean_difference(matched["rise"], matched["rise_of_other"], seed=seed),
    }


def _matched(heads: pd.DataFrame) -> pd.DataFrame:
    """Heads that share their outputs, each beside the head of its layer with the nearest norm that does not."""
    shared = heads["excess"] >= _SHARED
    both = heads[shared].merge(heads[~shared], on="layer", suffixes=("", "_of_other"))
    distance = (np.log(both["frobenius_norm"]) - np.log(both["frobenius_norm_of_other"])).abs()
    nearest: pd.DataFrame = both.loc[distance.groupby([both["layer"], both["head"]]).idxmin()]
    return nearest.reset_index(drop=True)


def _layers(analysis: Analysis, effects: Effects, seed: int) -> dict[str, Estimate]:
    """Whether a layer like the one before is missed less, beside block influence, which needs a text."""
    layers = analysis.structure.blocks.set_index("next_layer")["value"].rename("similar_layers").to_frame()
    layers["influence"] = effects.influence[layers.index]
    layers["left_out"], layers["replaced"] = effects.without_layer[layers.index], effects.as_previous[layers.index]
    units = layers.index.to_frame(name="layer")
    return {
        f"{predictor}_{effect}": rank_correlation(layers[predictor], layers[effect], units, seed=seed)
        for predictor in ("similar_layers", "influence")
        for effect in ("left_out", "replaced")
    }


def _links(analysis: Analysis, effects: Effects, seed: int) -> dict[str, Estimate]:
    """Whether a head that reads where another writes moves more when that one is taken away."""
    count = effects.without_head.shape[1]
    found = {}
    for kind, read in (("OQ", "query"), ("OK", "key"), ("OV", "value")):
        links = analysis.heads[(analysis.heads["kind"] == kind) & (analysis.heads["lag"] > 0)].reset_index(drop=True)
        source_layer, target_layer = links["source_layer"], links["target_layer"]
        # Several query heads share one head of keys and values.
        shared = count // (int(links["target_head"].max()) + 1)
        first = links["target_head"] * shared
        moved = [
            effects.on_heads[source_layer, links["source_head"], target_layer, first + place] for place in range(shared)
        ]
        movement = pd.Series(np.stack(moved).mean(axis=0))
        units = pd.DataFrame(
            {"source": source_layer * count + links["source_head"], "target": target_layer * count + first}
        )
        found[f"{read}_links"] = rank_correlation(links["overlap_excess"], movement, units, seed=seed)
        found[f"{read}_links_within"] = rank_correlation(
            links["overlap_excess"],
            movement,
            units,
            within=source_layer * effects.on_heads.shape[0] + target_layer,
            seed=seed,
        )
    return found
