"""What an analysis found, in sentences with their numbers."""

import numpy as np
import pandas as pd

from ..alignment import SEEDED_NULLS
from ..alignment.interfaces.composable import INTERFACE_KINDS
from ..alignment.interfaces.interface_table import balanced
from ..graph import NULL_MEANS
from ..graph.alignment_graph import FALSE_DISCOVERY_RATE
from ..network import ROLE_RECORDS
from ..network.roles import HEAD_ROLES, head_pair_name
from ..results.analysis import Analysis
from .words import listed

# Adjusted values (value - chance) / (1 - chance) from which a mean is said to carry over, and below which
# it is said not to: words for the reader, not tests.
CARRIED = 0.15
LITTLE = 0.08
# Without draws, a first vector on fewer than this share of its coordinates is said to live on a few channels.
FEW_CHANNELS = 0.05
# Layers that a mean over them needs before it is held against its error.
_ENOUGH_LAYERS = 5
# Steps of a role that do not carry over are named up to so many.
_NAMED_STEPS = 8

_ALIKE = {head_pair_name(role, role): ROLE_RECORDS[role].products for role in HEAD_ROLES}
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
    if analysis.pairs.empty and analysis.summary.empty:
        return ["Too few weights share a space here to compare anything."]
    return (
        _continuity(analysis)
        + _distance(analysis)
        + _strongest(analysis)
        + _heads(analysis)
        + _interfaces(analysis.interfaces)
        + _survival(analysis)
    )


def _with_values(rows: pd.DataFrame) -> str:
    return listed([f"{row.role} {row.abs_cos_1:.2f}" for row in rows.itertuples()])


def _has_nulls(summary: pd.DataFrame) -> bool:
    return bool(summary["excess"].notna().any())


def _doubtful(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Rows whose continuity the loudness of single channels can produce: by the nulls, or by a guess without them."""
    if not _has_nulls(rows):
        return rows["channels"] < FEW_CHANNELS * rows["dim"]
    largest = rows["abs_cos_1"] - rows["excess"]
    return (rows["adjusted"] >= CARRIED) & ~(rows["excess"] / (1 - largest) >= CARRIED)


def _continuity(analysis: Analysis) -> list[str]:
    if analysis.summary.empty:
        return []
    shared = analysis.summary[analysis.summary["shared_space"]]
    carried, doubtful = shared["adjusted"] >= CARRIED, _doubtful(shared)
    sentences = []
    for side in _VERBS:
        rows = shared[carried & ~doubtful & (shared["beyond_chance"] > 0) & (shared["side"] == side)]
        if len(rows):
            sentences += [_real(rows, side), _steps(rows, side, analysis.continuity)]
        rows = shared[carried & doubtful & (shared["side"] == side)]
        if len(rows):
            told = _explained(rows, side) if _has_nulls(shared) else _suspected(rows, side)
            sentences.append(told + _quiet_channels(rows))
    little = shared[shared["adjusted"] < LITTLE]
    if len(little):
        sentences.append(
            f"Little carries over from layer to layer for {_with_values(little)} (unrelated weights: "
            f"{little['null_mean'].iloc[0]:.3f})"
            + (f"; at single steps it does, {_beyond_chance(little)}." if little["beyond_chance"].any() else ".")
        )
    return sentences


def _beyond_chance(rows: pd.DataFrame) -> str:
    """Steps that stand out, of the roles that have some."""
    some = rows[rows["beyond_chance"] > 0]
    return listed([f"{row.beyond_chance} of {row.layer_pairs} for {row.role}" for row in some.itertuples()])


def _real(rows: pd.DataFrame, side: str) -> str:
    doing, which = _VERBS[side]
    sentence = (
        f"The main direction of {doing} carries over from layer to layer: mean |cos| of neighbouring first "
        f"{which} singular vectors is {_with_values(rows)}, where unrelated weights give "
        f"{rows['null_mean'].iloc[0]:.3f}"
    )
    if _has_nulls(rows):
        largest = (rows["abs_cos_1"] - rows["excess"]).max()
        sentence += f" and nulls that keep how loud each channel is {largest:.2f} at most"
    return sentence + "."


def _steps(rows: pd.DataFrame, side: str, continuity: pd.DataFrame) -> str:
    """In how many single steps each of these roles carries over, and where not."""
    told = []
    for row in rows.itertuples():
        steps = continuity[(continuity["role"] == row.role) & (continuity["side"] == side)]
        breaks = steps[steps["q_value"] > FALSE_DISCOVERY_RATE]
        # The direction may be there all the same, as the second or third of the next layer.
        moved = breaks[breaks["best_match"] - breaks["best_match_null_mean"] >= CARRIED]
        count = f"{row.beyond_chance} of {row.layer_pairs} for {row.role}"
        if 0 < len(breaks) <= _NAMED_STEPS:
            count += f" (not from layer{'s' * (len(breaks) > 1)} {_layers(breaks)} to the next"
            count += f"; from {_layers(moved)} it loses the first place only)" if len(moved) else ")"
        told.append(count)
    return (
        f"Step by step, beyond chance and random signs of the coordinates (false discovery rate "
        f"{FALSE_DISCOVERY_RATE:.0%}), {_VERBS[side][0]} carries over in {listed(told)}."
    )


def _layers(steps: pd.DataFrame) -> str:
    return listed(steps["layer"].astype(str).tolist())


def _quiet_channels(rows: pd.DataFrame) -> str:
    """Where loud channels account for the numbers, but the signs of the others agree."""
    if not rows["beyond_chance"].any():
        return ""
    return (
        " At single steps quieter channels agree too, beyond random signs of the coordinates "
        f"({_beyond_chance(rows)}), but it is the loud ones that make the numbers: these steps do not count as "
        "carried over."
    )


def _explained(rows: pd.DataFrame, side: str) -> str:
    """What the largest of the nulls gives as well, up to an effect size of `CARRIED`."""
    doing, _ = _VERBS[side]
    look = "look" if len(rows) > 1 else "looks"
    lines = "rows" if side == "write" else "columns"
    nulls = rows.assign(abs_cos_1=rows["abs_cos_1"] - rows["excess"])
    remaining = _with_values(rows.assign(abs_cos_1=rows["equalised"]))
    return (
        f"In {doing}, {_with_values(rows)} {look} continuous too, but a null that keeps only how loud each channel is "
        f"gives {_with_values(nulls)}: outlier channels account for these numbers, so do not take them for "
        f"alignment. What remains with all {lines} brought to one norm is {remaining}."
    )


def _suspected(rows: pd.DataFrame, side: str) -> str:
    """Without draws only the participation ratio warns."""
    doing, which = _VERBS[side]
    look, live = ("look", "vectors live") if len(rows) > 1 else ("looks", "vector lives")
    channels = listed([f"{row.channels:.0f}" for row in rows.itertuples()])
    return (
        f"In {doing}, {_with_values(rows)} {look} continuous too, but the first {which} singular {live} on "
        f"about {channels} of {rows['dim'].iloc[0]} channels: a few outlier channels can produce such numbers "
        "by themselves, so do not take them for alignment."
    )


def _distance(analysis: Analysis) -> list[str]:
    """Neighbours against layers half the network apart: a path that turns, or one global subspace."""
    if analysis.summary.empty:
        return []
    rows = analysis.summary[analysis.summary["shared_space"] & analysis.summary["overlap_far"].notna()]
    drawn = analysis.nulls[analysis.nulls["null"].isin(SEEDED_NULLS) & (analysis.nulls["measure"] == "overlap")]
    if drawn.empty:
        rows = rows[~_doubtful(rows)]
    loudest = drawn.groupby(["role", "side"])["mean"].max()
    keys = pd.MultiIndex.from_frame(rows[["role", "side"]])
    null = np.fmax(rows["overlap_null_mean"].to_numpy(), loudest.reindex(keys).to_numpy(dtype=float))
    beyond = rows[["overlap", "overlap_far"]].sub(null, axis=0).div(1 - null, axis=0)
    beyond = beyond[beyond["overlap"] >= LITTLE]
    if beyond.empty:
        return []
    near, far = beyond["overlap"].mean(), beyond["overlap_far"].mean()
    shape = "they turn with depth" if far < near / 2 else "much of what neighbours share, the whole network shares"
    which = "chance" if drawn.empty else "the largest null"
    return [
        f"Leading subspaces of neighbouring layers overlap by {near:.0%} beyond {which} (mean over "
        f"{listed(rows.loc[beyond.index, 'role'].tolist())}), those of layers {rows['far_lag'].iloc[0]} or more apart "
        f"by {max(far, 0):.0%}: {shape}."
    ]


def _strongest(analysis: Analysis) -> list[str]:
    """Largest overlap of two kinds among the spaces that may be rotated at most, if the graph has it."""
    surviving = analysis.spaces.loc[analysis.spaces["overlap_survives"], "name"]
    comparable = analysis.pairs[analysis.pairs["space"].isin(surviving) & analysis.pairs["excess"].notna()]
    sentences = []
    for kind, what in (
        ("write-read", "Of all writings that meet a later reading, {source} into {target} overlap most"),
        ("read-read", "Of all pairs of readings, {source} and {target} overlap most"),
    ):
        pairs = comparable[comparable["kind"] == kind]
        if pairs.empty:
            continue
        largest = pairs.nlargest(1, "overlap").to_dict("records")[0]
        if analysis.graph.has_edge(largest["source"], largest["target"], key=kind):
            sentences.append(
                f"{what.format(source=largest['source'], target=largest['target'])}: {largest['overlap']:.2f}, the "
                f"largest of {len(pairs)} pairs; one unrelated pair gives {largest['null_mean']:.3f} on average."
            )
    return sentences


def _heads(analysis: Analysis) -> list[str]:
    """Which heads feed which, and which do the same, at the full width of the heads."""
    heads = analysis.heads
    if heads.empty:
        return []
    sentences = []
    feeding = heads[~heads["kind"].isin(_ALIKE) & (heads["q_value"] <= FALSE_DISCOVERY_RATE)]
    strongest = feeding.loc[feeding["excess"] > 0].nlargest(3, "excess")
    if len(strongest):
        links = [
            f"{row['source']} into {row['target']} ({row['kernel']:.1f} of "
            f"{min(row['source_rank'], row['target_rank'])} dimensions)"
            for row in strongest.to_dict("records")
        ]
        loud = np.nanmax(strongest[list(NULL_MEANS)])
        sentences.append(
            f"Of all heads that write what a later head reads, the strongest links are {listed(links)}; unrelated "
            f"heads share {strongest['null_mean'].max():.1f}, heads with channels as loud {loud:.1f} at most."
        )
    kinds = analysis.head_kinds.set_index("kind")
    means = kinds["mean"].to_dict()
    alike = [f"{word} {means[kind]:.1f}" for kind, word in _ALIKE.items() if kind in means]
    if alike:
        mean = float(kinds["null_mean"].iloc[0])
        loud = np.nanmax(kinds.loc[[kind for kind in _ALIKE if kind in means], list(NULL_MEANS)])
        sentences.append(
            f"On average two heads share, in dimensions: {listed(alike)}; unrelated ones share {mean:.1f}, "
            f"ones with channels as loud {loud:.1f} at most."
        )
    groups = analysis.head_clusters
    if len(groups):
        largest = groups.nlargest(1, "adjusted_overlap").iloc[0]
        count = f"{len(groups)} groups of heads" if len(groups) > 1 else "One group of heads"
        has_room = not np.isnan(largest["excess"])
        beyond = f", by {largest['excess']:.2f} beyond what loud channels account for" if has_room else ""
        sentences.append(
            f"{count} of one role overlap by half or more beyond chance, the closest by "
            f"{largest['adjusted_overlap']:.2f} on average{beyond}: {largest['heads']}."
        )
    return sentences


def _interfaces(interfaces: pd.DataFrame) -> list[str]:
    """Where the two weights of an interface know of each other, and where they do not."""
    shown = balanced(interfaces[interfaces["kind"].isin(INTERFACE_KINDS)])
    shown = shown[shown["overlap_null_sd"] > 0]
    nulls = shown[["overlap_null_mean", "overlap_sign_flip_mean"]]
    shown = shown.assign(beyond=shown["overlap"] - nulls.max(axis=1))
    standing, known = [], []
    for kind, rows in shown.groupby("kind", sort=False):
        # Heads of a layer may depend on each other, and few layers may vary less than chance alone would.
        layers = rows.groupby("layer")["beyond"].mean()
        chance = (rows["overlap_null_sd"].pow(2).mean() / len(rows)) ** 0.5
        error = max(layers.std() / len(layers) ** 0.5, chance) if len(layers) > 1 else np.inf
        if len(layers) >= _ENOUGH_LAYERS and layers.mean() > 3 * error:
            known.append(str(kind))
        loud, null = rows["overlap_sign_flip_mean"].mean(), rows["overlap_null_mean"].mean()
        standing.append(f"{kind} {rows['overlap'].mean():.3f} (unrelated {null:.3f}, loud units {loud:.3f})")
    if not known:
        return []
    return [
        "Where one weight writes what the next reads, their leading subspaces overlap on average by "
        f"{listed(standing)}: more than either kind of chance, by 3 standard errors over layers, for {listed(known)}."
    ]


def _survival(analysis: Analysis) -> list[str]:
    """What of all this another checkpoint of the same function could change."""
    tables = {"pairs of leading subspaces": analysis.pairs, "pairs of heads": analysis.heads}
    tables["interfaces"] = analysis.interfaces
    shares = {what: table["survives"].mean() for what, table in tables.items() if len(table)}
    if not shares or min(shares.values()) == 1:
        return []
    standing = listed([f"{share:.0%} of the {what}" for what, share in shares.items()])
    folded = "Norm gains are folded in" if analysis.provenance["fold_norms"] else "Without --fold-norms"
    return [
        f"{folded}: the numbers of {standing} survive every change of basis that leaves the network's function alone. "
        "The others depend on the basis that training happened to choose: compare them inside one network, not between "
        "networks."
    ]
