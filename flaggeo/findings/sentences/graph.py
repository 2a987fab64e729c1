"""Of an alignment graph."""

from collections.abc import Sequence
from math import nan

from ..words import END, counted, listed, with_spread
from .phrases import Row, first_few, of_random_graphs


def hub(
    _verdict: str,
    *,
    name: str,
    side: str,
    edges: int,
    strength: float,
    random: float,
    largest_random: float,
    stable_strength: float | None,
) -> str:
    """Verdict: present."""
    stability = "" if stable_strength is None else f" Its stable edges alone give {stable_strength:.2f}."
    others = "earlier heads and weights write" if side == "read" else "later heads and weights read"
    return (
        f"{name} is the strongest hub of {END[side]}s: {counted(edges, 'edge')} to what {others}, with a total excess "
        f"of {strength:.2f}, where the same edges placed at random give it {random:.2f} and no subspace more than "
        f"{largest_random:.2f}.{stability}"
    )


def stable_edges(
    _verdict: str,
    *,
    edges: int,
    stable: int,
    stands_at_half_rank: int,
    stands_at_double_rank: int,
    stands_after_rounding: int,
) -> str:
    """Verdicts: present, absent."""
    return (
        f"{stable} of the {edges} edges of the alignment graph {'is' if stable == 1 else 'are'} stable: "
        f"{stands_at_half_rank} would be found at half the rank too, {stands_at_double_rank} at twice the rank, and "
        f"{stands_after_rounding} if every overlap were lower by what the rounding of stored numbers may have added to "
        "it (three standard deviations, to first order)."
    )


def communities(
    verdict: str, *, communities: int, largest: int, modularity: Row, roles: Row, layers: Row, depth: Row
) -> str:
    """Verdicts: present, absent."""
    measured = (
        f"the modularity is {modularity['value']:.2f}, and {of_random_graphs(modularity)} in random graphs of the "
        "same degrees"
    )
    if verdict == "absent":
        return f"Subspaces that share directions form no communities beyond those of random graphs: {measured}."
    more_by_role = roles["value"] - roles["random"] > layers["value"] - layers["random"]
    sentence = (
        f"Subspaces that share directions form {communities} communities, the largest of {largest}, which stand "
        f"out from random graphs more by {'role than by layer' if more_by_role else 'layer than by role'}: {measured}. "
        f"Their normalised mutual information is {roles['value']:.2f} with roles (random graphs "
        f"{of_random_graphs(roles)}) and {layers['value']:.2f} with layers ({of_random_graphs(layers)})."
    )
    if depth["value"] is None:
        return sentence
    return (
        f"{sentence} {depth['value']:.0%} of the variance in depth lies between communities (random graphs "
        f"{of_random_graphs(depth, '.0%')})."
    )


def bottleneck(
    verdict: str,
    *,
    space: str,
    side: str,
    subspaces: int,
    dimension: int,
    effective_dimension: float,
    unrelated: float,
    largest_null: float,
) -> str:
    """Verdicts: present, absent, explained_by_outlier_channels or _common_mean, undetermined (no nulls were drawn)."""
    verb = f"{side} from" if side == "read" else f"{side} to"
    answer = {
        "present": f"Weights {verb} few dimensions of the {space}",
        "absent": f"Weights {verb} as many dimensions of the {space} as unrelated ones would",
        "explained_by_outlier_channels": (
            f"Weights {verb} few dimensions of the {space}, which outlier channels explain"
        ),
        "explained_by_common_mean": (
            f"Weights {verb} few dimensions of the {space}, which a common mean of the entries explains"
        ),
        "undetermined": (
            f"Weights {verb} few dimensions of the {space}; outlier channels may explain it, since norm-matched "
            "weights are missing for most pairs"
        ),
    }[verdict]
    return (
        f"{answer}: {subspaces} leading {END[side]} subspaces have an effective dimension of "
        f"{effective_dimension:.0f} of {dimension} together, where unrelated ones would have {unrelated:.0f}, and the "
        f"largest null of each pair gives {largest_null:.0f}."
    )


def decay_length(_verdict: str, *, side: str, roles: Sequence[Row]) -> str:
    """Verdict: present."""
    told = [
        f"{row['length']:.1f} layers for {row['role']} (from {row['nearest']:.2f} at the least distance; "
        f"R² {row['r_squared']:.2f})"
        for row in roles
    ]
    return (
        f"Alignment of {END[side]}s decays with depth: between {END[side]} subspaces of one role, the mean excess over "
        f"the largest null falls to 1/e within {listed(told)}."
    )


def redundant_groups(
    _verdict: str, *, pairs: Row, larger_groups: Row, heads: Sequence[str], least_excess: float
) -> str:
    """Verdict: present."""
    counts = [
        counted(row["value"], noun)
        + (
            ""
            if row["random_sd"] is None
            else f" (random graphs of the same degrees {of_random_graphs(row, '.1f', 'none')})"
        )
        for noun, row in (("larger group", larger_groups), ("pair", pairs))
        if row["value"]
    ]
    return (
        f"The leading directions of heads of one role overlap strongly in {listed(counts)}. In the largest, every two "
        f"heads have an excess of at least {least_excess:.2f} over the largest null: {first_few(heads)}."
    )


def repeating_heads(
    verdict: str,
    *,
    groups: int,
    shown: int,
    whole: int,
    leading: int,
    pairs: int,
    both: int,
    rank: int | None,
    explained: int,
) -> str:
    """Verdicts: present, absent."""
    answer = f"Heads of one role repeat each other in {counted(groups, 'group')}"
    if verdict == "absent":
        answer = "No heads of one role repeat each other beyond the nulls."
    elif rank is None:
        answer += ", at full width: in all that they read or write."
    else:
        larger = leading - pairs
        parts = [counted(pairs, "pair")] * bool(pairs) + [counted(larger, "larger group")] * bool(larger)
        sizes = f" ({' and '.join(parts)})" if parts else ""
        both_ways = f"; {both} {'is' if both == 1 else 'are'} found in both ways" if both else ""
        answer += (
            f": {whole} at full width, in all that they read or write, and {leading} in their leading {rank} "
            f"directions{sizes}{both_ways}."
        )
    if shown < groups:
        answer += f" The list has the {shown} of the largest excess."
    if explained:
        answer += f" Outlier channels explain {counted(explained, 'more group')} at full width."
    return answer


def strongest_path(
    verdict: str, *, subspaces: Sequence[str], strength: float, tied: bool, random: float, random_sd: float
) -> str:
    """Verdicts: present, absent (no stronger than random), undetermined (no null graphs, or none with a path)."""
    end = "tied unembedding (the embedding read back)" if tied else "unembedding"
    subject, path = f"The strongest path from the embedding to the {end}", " → ".join(subspaces)
    if verdict == "undetermined":
        none = " When the same excesses are shuffled among pairs, no path is left." if random == 0 else ""
        return f"{subject} is {path}, with a product of excesses of {strength:.2g}.{none}"
    relation = "stronger" if verdict == "present" else "no stronger"
    return (
        f"{subject} is {relation} than when the same excesses are shuffled among pairs: its product of excesses is "
        f"{strength:.2g}, against {with_spread(random, random_sd, '.2g')}. It is {path}."
    )


def similar_layers(verdict: str, *, pairs: Sequence[Row] = (), largest_elsewhere: float = nan) -> str:
    """Verdicts: present, absent."""
    if verdict == "absent":
        return "No two neighbouring layers are clearly more alike than layers further apart."
    told = [f"{row['layer']} and {row['next_layer']} ({row['mean_excess']:.2f})" for row in pairs]
    return (
        f"The most similar neighbouring layers are {'; '.join(told)}, by their mean excess over the largest null, role "
        f"by role; layers that are not neighbours reach {largest_elsewhere:.2f} at most. Geometry alone suggests these "
        "as candidates for sharing parameters. In SmolLM2, leaving out such layers cost somewhat less, and block "
        "influence, which needs a text, predicted that better (docs/claims.md)."
    )


def norm_matched_null(_verdict: str, *, share_matched: float) -> str:
    """Verdict: undetermined."""
    return (
        f"Outlier channels may account for more of these excesses, and of how few dimensions are used, than the other "
        f"nulls show: norm-matched weights are known for only {share_matched:.0%} of the pairs of a space."
    )
