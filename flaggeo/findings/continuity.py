"""Whether weights keep their first direction across layers: as stored, and with the norms folded in."""

import numpy as np
import pandas as pd

from ..alignment import FOLDED, LAW_ERROR, SEEDED_NULLS, STORED, effect_size
from ..graph.alignment_graph import FALSE_DISCOVERY_RATE
from ..results.analysis import Analysis
from .finding import KEPT, LITTLE, Finding
from .words import END

# The nulls that keep outlier channels, and that of unrelated weights.
_KEEP_CHANNELS = ("null", *SEEDED_NULLS)
_NULLS = (*_KEEP_CHANNELS, "mean_matched")
# Verdicts about the roles of one side, in order of importance.
_BY_SIDE = (
    "present",
    "explained_by_outlier_channels",
    "partly_outlier_channels",
    "undetermined",
    "explained_by_common_mean",
    "depends_on_folding",
)
# Verdicts that see too little to call it alignment, and those that see what only appears to be.
_LITTLE = {"weak", "absent"}
_EXPLAINED = {"explained_by_outlier_channels", "explained_by_common_mean"}
# Verdicts that leave the numbers of a role to be read as alignment, or as none.
_AT_FACE_VALUE = ("present", "weak", "absent")


def continuity(analysis: Analysis) -> list[Finding]:
    """What the first directions of the roles do; a verdict holds for a role only if both readings agree on it."""
    if analysis.summary.empty:
        return []
    found = []
    summary = analysis.summary.set_index(["role", "side"], drop=False)
    answers = verdicts(analysis)
    for side in END:
        for verdict in _BY_SIDE:
            rows = summary.loc[[place for place in answers.index[answers == verdict] if place[1] == side]]
            if len(rows):
                found.append(_of_roles(rows, verdict, analysis))
                if verdict == "present":
                    found.append(_layer_pairs(rows, analysis.continuity))
    rows = summary.loc[answers.index[answers == "absent"]]
    return [*found, _of_roles(rows, "absent", analysis)] if len(rows) else found


def verdicts(analysis: Analysis) -> "pd.Series[str]":
    """Verdict of each role and side in a space that layers share: that of both readings, or that they differ.

    Besides those of `flaggeo.findings.sentences.continuity` it may be ``weak``: too little to be called kept, or in no
    layer pair beyond chance, and too much to be called absent.
    """
    readings = analysis.readings
    answers = _verdicts(readings).groupby([readings["role"], readings["side"]], sort=False)
    return answers.agg(lambda both: _agreed(set(both)))


def at_face_value(analysis: Analysis) -> "pd.MultiIndex":
    """Roles and sides whose numbers are what they seem to be, in the reading that all tables are of."""
    other = STORED if analysis.settings.fold_norms else FOLDED
    readings = analysis.readings[analysis.readings["reading"] != other]
    return pd.MultiIndex.from_frame(readings.loc[_verdicts(readings).isin(_AT_FACE_VALUE), ["role", "side"]])


def _verdicts(rows: pd.DataFrame) -> "pd.Series[str]":
    """Verdict of each reading of a role by itself."""
    error = pd.Series(np.where(rows["draws"] > 0, 0.0, LAW_ERROR), index=rows.index)
    kept = rows["abs_cos_1_effect_size"] >= KEPT
    beyond = _above(rows, *_KEEP_CHANNELS, error=error)
    # Too little above the null at its least, or no more than the null at its largest.
    explained = ~_above(rows, *_KEEP_CHANNELS, error=-error) | ~_above(rows, *_KEEP_CHANNELS, error=error, least=0)
    equalised = effect_size(rows["abs_cos_1_equalised"], rows["abs_cos_1_null_mean"])
    by_mean, some = ~_above(rows, "mean_matched"), rows["significant_pairs"] > 0
    cases = {
        "absent": rows["abs_cos_1_effect_size"] < LITTLE,
        "weak": ~kept,
        "explained_by_outlier_channels": explained & (equalised < LITTLE),
        "partly_outlier_channels": explained & (equalised >= LITTLE),
        "explained_by_common_mean": beyond & by_mean,
        "present": beyond & some,
        "undetermined": ~beyond & some,
    }
    return pd.Series(np.select(list(cases.values()), list(cases), default="weak"), index=rows.index)


def _agreed(both: set[str]) -> str:
    """What two readings say together."""
    if len(both) == 1:
        return next(iter(both))
    told = both - _LITTLE
    if not told:
        return "weak"
    # Where nothing is left of it in the other reading either, an explanation holds for both.
    return next(iter(told)) if len(told) == 1 and told <= _EXPLAINED else "depends_on_folding"


def _above(
    rows: pd.DataFrame, *nulls: str, error: "pd.Series[float] | float" = 0.0, least: float = KEPT
) -> "pd.Series[bool]":
    """Rows with so much continuity over the largest of these nulls, the norm-matched one shifted by an error."""
    means = rows[[f"abs_cos_1_{null}_mean" for null in nulls]]
    if "norm_matched" in nulls:
        means = means.assign(abs_cos_1_norm_matched_mean=means["abs_cos_1_norm_matched_mean"] + error)
    largest = means.max(axis=1).clip(upper=1)
    # A null that leaves no room explains everything.
    return pd.Series(effect_size(rows["abs_cos_1"], largest) >= least, index=rows.index)


def _of_roles(rows: pd.DataFrame, verdict: str, analysis: Analysis) -> Finding:
    largest = rows[[f"abs_cos_1_{null}_mean" for null in _NULLS]].max(axis=1)
    readings = {place: group.set_index("reading") for place, group in analysis.readings.groupby(["role", "side"])}
    roles = [
        {
            "role": row["role"],
            "side": row["side"],
            "cosine": row["abs_cos_1"],
            "unrelated": row["abs_cos_1_null_mean"],
            "largest_null": null,
            "equal_norms": readings[row["role"], row["side"]]["abs_cos_1_equalised"].iloc[0],
            "mean_matched": row["abs_cos_1_mean_matched_mean"],
            "mean_share": row["mean_share"],
            "channels": row["channels"],
            "dimension": row["dim"],
            "significant": row["significant_pairs"],
            "layer_pairs": row["layer_pairs"],
            "readings": _both(readings[row["role"], row["side"]]),
        }
        for row, null in zip(rows.to_dict("records"), largest, strict=True)
    ]
    settings = analysis.settings
    numbers = {"roles": roles, "drawn": settings.draws > 0, "law_error": LAW_ERROR, "fold_norms": settings.fold_norms}
    return Finding("continuity", verdict, numbers, "continuity")


def _both(readings: pd.DataFrame) -> dict[str, dict[str, float]] | None:
    """Value and largest null of a role in each reading; None where there is one alone."""
    if len(readings) == 1:
        return None
    cosines, largest = readings["abs_cos_1"], readings[[f"abs_cos_1_{null}_mean" for null in _NULLS]].max(axis=1)
    return {
        reading: {"cosine": float(cosines[reading]), "largest_null": float(largest[reading])}
        for reading in (STORED, FOLDED)
    }


def _layer_pairs(rows: pd.DataFrame, continuity: pd.DataFrame) -> Finding:
    """In how many single layer pairs each of these roles keeps its direction, and where not."""
    roles = []
    for row in rows.to_dict("records"):
        pairs = continuity[(continuity["role"] == row["role"]) & (continuity["side"] == row["side"])]
        breaks = pairs[pairs["abs_cos_1_q_value"] > FALSE_DISCOVERY_RATE]
        # The direction may be there all the same, as the second or third of the next layer.
        demoted = breaks[breaks["best_match"] - breaks["best_match_null_mean"] >= KEPT]
        roles.append(
            {
                "role": row["role"],
                "significant": row["significant_pairs"],
                "layer_pairs": row["layer_pairs"],
                "breaks_after": breaks["layer"].tolist(),
                "demoted_after": demoted["layer"].tolist(),
            }
        )
    numbers = {"side": rows["side"].iloc[0], "false_discovery_rate": FALSE_DISCOVERY_RATE, "roles": roles}
    return Finding("continuity_by_layer_pair", "present", numbers, "continuity")
