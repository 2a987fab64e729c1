"""Whether the geometry of a model's weights predicts what its heads and layers do."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from ...results.analysis import Analysis
from .correlation import Estimate, mean_difference, rank_correlation
from .effects import Effects

# Excess from which two heads are said to share their output subspace.
_SHARED = 0.3


def predictions(analysis: Analysis, effects: Effects, *, seed: int = 0) -> pd.DataFrame:
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
    predictions : DataFrame
        One row a question: ``predictor``, ``effect``, ``statistic`` (rank correlation, over all or within layers, or
        difference in nats), ``value``, ``low`` and ``high`` (its 95 % interval), ``count`` (rows behind it).
    """
    return pd.DataFrame(
        [*_repeated_heads(analysis, effects, seed), *_layers(analysis, effects, seed), *_links(analysis, effects, seed)]
    )


def _row(predictor: str, effect: str, statistic: str, estimate: Estimate) -> dict[str, object]:
    return {"predictor": predictor, "effect": effect, "statistic": statistic, **asdict(estimate)}


def _repeated_heads(analysis: Analysis, effects: Effects, seed: int) -> list[dict[str, object]]:
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
    found = []
    for words, groups in (("over all", None), ("within layers", heads["layer"])):
        units = heads.index.to_frame()
        estimate = rank_correlation(heads["excess"], heads["rise"], units, within=groups, seed=seed)
        found.append(
            _row("largest overlap with another head", "loss without the head", f"rank correlation {words}", estimate)
        )
    matched = _matched(heads)
    estimate = mean_difference(matched["rise"], matched["rise_of_other"], seed=seed)
    return [
        *found,
        _row("shares its outputs with another head", "loss without the head", "difference to a matched head", estimate),
    ]


def _matched(heads: pd.DataFrame) -> pd.DataFrame:
    """Heads that share their outputs, each beside the head of its layer with the nearest norm that does not."""
    shared = heads["excess"] >= _SHARED
    both = heads[shared].merge(heads[~shared], on="layer", suffixes=("", "_of_other"))
    distance = (np.log(both["frobenius_norm"]) - np.log(both["frobenius_norm_of_other"])).abs()
    return both.loc[distance.groupby([both["layer"], both["head"]]).idxmin()].reset_index(drop=True)


def _layers(analysis: Analysis, effects: Effects, seed: int) -> list[dict[str, object]]:
    """Whether a layer like the one before is missed less, beside block influence, which needs a text."""
    layers = analysis.structure.blocks.set_index("next_layer")["value"].rename("similarity").to_frame()
    layers["influence"] = effects.influence[layers.index]
    layers["without"], layers["as_previous"] = effects.without_layer[layers.index], effects.as_previous[layers.index]
    names = {"similarity": "similarity to the layer before", "influence": "block influence"}
    results = {"without": "loss without the layer", "as_previous": "loss with the layer before in its place"}
    units = layers.index.to_frame(name="layer")
    return [
        _row(
            predicts,
            effect,
            "rank correlation over all",
            rank_correlation(layers[predictor], layers[column], units, seed=seed),
        )
        for column, effect in results.items()
        for predictor, predicts in names.items()
    ]


def _links(analysis: Analysis, effects: Effects, seed: int) -> list[dict[str, object]]:
    """Whether a head that reads where another writes moves more when that one is taken away."""
    count = effects.without_head.shape[1]
    found = []
    for kind, read in (("OQ", "query"), ("OK", "key"), ("OV", "value")):
        links = analysis.heads[(analysis.heads["kind"] == kind) & (analysis.heads["lag"] > 0)].reset_index(drop=True)
        # Several query heads share one head of keys and values.
        shared = count // (int(links["target_head"].max()) + 1)
        source = links["source_layer"] * count + links["source_head"]
        target = links["target_layer"] * count + links["target_head"] * shared
        moved = np.stack(
            [
                effects.on_heads[
                    links["source_layer"],
                    links["source_head"],
                    links["target_layer"],
                    links["target_head"] * shared + one,
                ]
                for one in range(shared)
            ]
        ).mean(axis=0)
        units = pd.DataFrame({"source": source, "target": target})
        between = links["source_layer"] * 10_000 + links["target_layer"]
        for words, groups in (("over all", None), ("within pairs of layers", between)):
            estimate = rank_correlation(links["overlap_excess"], pd.Series(moved), units, within=groups, seed=seed)
            found.append(
                _row(
                    f"overlap of its output with a later {read} input",
                    "movement of the later head",
                    f"rank correlation {words}",
                    estimate,
                )
            )
    return found
