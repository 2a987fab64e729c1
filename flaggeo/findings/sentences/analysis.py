"""Of pairs of subspaces, heads and interfaces."""

from collections.abc import Mapping, Sequence

from ..words import counted, listed
from .phrases import Row, first_few, share_of


def strongest_overlap(
    verdict: str,
    *,
    pair_kind: str,
    source: str,
    target: str,
    overlap: float,
    unrelated: float,
    pairs: int,
    excess: float,
) -> str:
    """Verdicts: present, small."""
    size = f" Over its largest null this is a small effect, of {excess:.2f}." if verdict == "small" else ""
    return (
        f"The strongest {pair_kind} overlap is {overlap:.2f}, between {source} and {target}: the largest of {pairs:,} "
        f"pairs, where a pair of unrelated subspaces gives {unrelated:.3f}.{size}"
    )


def heads_feeding(
    verdict: str, *, links: Sequence[Row], significant: int, unrelated: float, largest_null: float
) -> str:
    """Verdicts: present, small."""
    told = [
        f"{row['source']} and {row['target']} ({row['shared']:.1f} of {row['dimensions']} dimensions)" for row in links
    ]
    share = f"{counted(significant, 'pair')} of them share{'s' * (significant == 1)}"
    size = ""
    if verdict == "small":
        size = f" Over the largest null even the strongest is a small effect, of {links[0]['excess']:.2f}."
    return (
        f"Heads write what later heads read: {share} more than unrelated heads, random signs or a common mean explain. "
        f"The strongest links are {'; '.join(told)}. Unrelated heads share {unrelated:.1f} dimensions, and the largest "
        f"null gives {largest_null:.1f}.{size}"
    )


def similar_heads(verdict: str, *, roles: Sequence[Row], unrelated: float, largest_null: float) -> str:
    """Verdicts: present, absent."""
    shared = listed([f"{row['shared']:.1f} for {row['role']}" for row in roles])
    answer = "share more" if verdict == "present" else "share hardly more"
    return (
        f"Two heads of one role {answer} dimensions than the nulls give: {shared} on average, where unrelated heads "
        f"share {unrelated:.1f} and the largest null gives {largest_null:.1f}."
    )


def redundant_heads(verdict: str, *, groups: int, heads: Sequence[str], effect_size: float, excess: float) -> str:
    """Verdicts: present, explained_by_outlier_channels, undetermined."""
    answer = {
        "present": "Some heads repeat each other",
        "explained_by_outlier_channels": "Some heads seem to repeat each other, but outlier channels explain it",
        "undetermined": "Some heads seem to repeat each other, but they fill the space too far to tell",
    }[verdict]
    beyond = "" if excess is None else f", and of {excess:.2f} over the largest null"
    advice = ""
    if verdict == "present":
        advice = (
            " They are candidates for sharing a subspace, not for removal: in SmolLM2, sharing did not predict what "
            "the ablation of a head costs (docs/claims.md)."
        )
    return (
        f"{answer}: {counted(groups, 'group')} of heads of one role overlap{'s' * (groups == 1)} at full width by "
        f"half or more beyond unrelated heads. The closest has a mean effect size of {effect_size:.2f} over unrelated "
        f"heads{beyond}: {first_few(heads)}.{advice}"
    )


def composed_weights(
    verdict: str,
    *,
    kinds: Sequence[Row],
    aligned: Sequence[str],
    small: Sequence[str],
    under_null: Sequence[str],
    below_chance: Sequence[str],
    standard_errors: int,
) -> str:
    """Verdicts: present, small (significant, but of small effect), explained_by_common_mean, below_chance."""
    told = [
        f"{row['overlap']:.3f} for {row['kind']} (unrelated weights {row['unrelated']:.3f}, sign-flip null "
        f"{row['sign_flip']:.3f}, mean-matched null {row['mean_matched']:.3f})"
        for row in kinds
    ]
    measured = f" The mean overlap of their leading subspaces is {listed(told)}."
    beyond = f"by more than {standard_errors} standard errors over the layers"
    chance = (
        f"What one weight of {listed(below_chance or [''])} writes and what the other reads overlap less than chance: "
        f"less than under every null, {beyond}."
    )
    if verdict == "below_chance":
        return chance + measured
    less = f" {chance}" if below_chance else ""
    if under_null:
        less += f" That of {listed(under_null)} is below the largest null, {beyond}."
    if verdict == "explained_by_common_mean":
        return (
            f"A common mean of the entries explains why the two weights of {listed(aligned)} appear to be aligned: "
            f"what one writes and what the other reads overlap more than unrelated weights and random signs give, "
            f"{beyond}, but no more than where the means of the "
            f"directions over the hidden units are kept.{less}{measured} The other numbers of interfaces have no null "
            "that keeps a mean."
        )
    effects = listed([f"{row['excess']:.2f} for {row['kind']}" for row in kinds if row["kind"] in small] or [""])
    size = f" The effect is small: over the largest null {effects}." if small else ""
    return (
        f"The two weights of {listed(aligned)} are aligned: what one writes and what the other reads overlap more than "
        f"under any null, {beyond}.{size}{less}{measured}"
    )


def basis_independence(_verdict: str, *, shares: Mapping[str, float], fold_norms: bool) -> str:
    """Verdict: partial."""
    told = listed([f"{share_of(1 - share)} the {what}" for what, share in shares.items() if share < 1])
    return (
        "A change of basis that leaves the network's function alone can change some of these numbers: "
        f"{'with' if fold_norms else 'without'} norm gains folded in, those of {told}. Compare these within one "
        "network, not between networks."
    )


def p_value_resolution(
    _verdict: str, *, what: str, rows: int, of: int, smallest_floor: float, false_discovery_rate: float
) -> str:
    """Verdict: undetermined."""
    return (
        f"{rows} of {of} {what.replace('pair', 'pairs', 1)} cannot become significant whatever their alignment: the "
        f"smallest p-value that their nulls can give is {smallest_floor:.2g} or more, above the false discovery rate "
        f"of {false_discovery_rate:.0%}."
    )
