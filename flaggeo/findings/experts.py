"""What the experts of a mixture have in common with those of the next layer: all together, and one by one."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from ..alignment import LAW_ERROR, effect_size
from ..alignment.experts.expert_table import ACROSS
from ..graph.alignment_graph import FALSE_DISCOVERY_RATE
from .finding import KEPT, LITTLE, Finding

Row = Mapping[str, Any]

# Where a null leaves less room above it, a value that takes a large share of the room is no more than the null.
_LEAST_ROOM = 0.01


def stacked_continuity(summary: pd.DataFrame) -> list[Finding]:
    """Whether the stacks of a layer's experts keep their leading direction.

    Parameters
    ----------
    summary : pandas.DataFrame
        `Analysis.summary`, with a stack at least.
    """
    rows = summary[summary["stacked"] & summary["shared_space"]]
    columns = {
        "role": "role",
        "side": "side",
        "cosine": "abs_cos_1",
        "unrelated": "abs_cos_1_null_mean",
        "sign_flip": "abs_cos_1_sign_flip_mean",
        "norm_matched": "abs_cos_1_norm_matched_mean",
        "mean_matched": "abs_cos_1_mean_matched_mean",
        "channels": "channels",
        "dimension": "dim",
        "significant": "significant_pairs",
        "layer_pairs": "layer_pairs",
    }
    numbers = [{name: row[column] for name, column in columns.items()} for row in rows.to_dict("records")]
    for row in numbers:
        row["outlier_channels"] = max(row["sign_flip"], row["norm_matched"])
        row["largest_null"] = max(row["outlier_channels"], row["mean_matched"])
    return _by_verdict("stacked_continuity", _stack_verdict, numbers, "continuity", law_error=LAW_ERROR)


def _stack_verdict(row: Row) -> str | None:
    # No norm-matched stack is drawn, so that the error of the closed form stays.
    least, most = (
        {**row, "sign_flip": max(row["sign_flip"], min(row["norm_matched"] + error, 1))}
        for error in (-LAW_ERROR, LAW_ERROR)
    )
    answer, doubtful = (_against_nulls(row["cosine"], one) for one in (least, most))
    if answer != doubtful:
        answer = "undetermined" if row["cosine"] > most["sign_flip"] else doubtful
    return answer if answer not in ("present", "undetermined") or row["significant"] else None


def matched_experts(experts: pd.DataFrame) -> list[Finding]:
    """Whether single experts continue in experts of the next layer, whatever their numbers.

    Parameters
    ----------
    experts : pandas.DataFrame
        `Analysis.experts`.
    """
    numbers = []
    for (role, side), rows in experts[experts["kind"] == ACROSS].groupby(["role", "side"], sort=False):
        significant = rows[["matched_overlap_q_value", "matched_gain_q_value"]].max(axis=1) <= FALSE_DISCOVERY_RATE
        means = rows.mean(numeric_only=True)
        nulls = {"unrelated": "null", "sign_flip": "sign_flip", "mean_matched": "mean_matched"}
        numbers.append(
            {"role": role, "side": side, "overlap": means["matched_overlap"], "any_two": means["overlap"]}
            | {name: means[f"matched_overlap_{null}_mean"] for name, null in nulls.items()}
            | {"gain_excess": means["matched_gain_excess"]}
            | {"significant": significant.sum(), "layer_pairs": len(rows)}
        )
    return _by_verdict("matched_experts", _matching_verdict, numbers, "experts")


def _matching_verdict(row: Row) -> str | None:
    answer = _against_nulls(row["overlap"], row)
    if answer != "present":
        return answer
    if row["gain_excess"] < KEPT:
        return "explained_by_common_directions"
    return "present" if row["significant"] else None


def _against_nulls(value: float, row: Row) -> str | None:
    """The first null that the value is not kept over, in words; None where there is nothing to say."""
    if effect_size(value, row["unrelated"]) < LITTLE:
        return "absent"
    if effect_size(value, row["unrelated"]) < KEPT:
        return None
    explained = {"sign_flip": "explained_by_outlier_channels", "mean_matched": "explained_by_common_mean"}
    for null, verdict in explained.items():
        # A null that leaves no room explains everything.
        if not effect_size(value, max(row["unrelated"], row[null]), tolerance=_LEAST_ROOM) >= KEPT:
            return verdict
    return "present"


def _by_verdict(
    kind: str, verdict: Callable[[Row], str | None], rows: list[dict[str, Any]], place: str, **numbers: float
) -> list[Finding]:
    """One finding for all roles with the same answer on the same side."""
    answers: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        answer = verdict(row)
        if answer is not None:
            answers.setdefault((answer, row["side"]), []).append(row)
    return [Finding(kind, answer, {"roles": roles, **numbers}, place) for (answer, _), roles in answers.items()]
