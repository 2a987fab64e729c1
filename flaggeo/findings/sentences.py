"""The sentences. One function a kind of finding, named like it; it takes the verdict and the numbers.

Each sentence gives the answer first, then the number beside its baseline, then the detail.
"""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from .words import END, VECTORS, counted, degrees, listed, with_spread

Row = Mapping[str, Any]

# Layers, of a role or of a change, that are named one by one.
_NAMED_LAYERS = 8
_NAMED_HEADS = 6


# Of an analysis.


def comparable_weights(_verdict: str) -> str:
    """Verdict: absent."""
    return "Nothing could be compared: no two of the weights share a space."


def continuity(verdict: str, *, roles: Sequence[Row], drawn: bool, law_error: float, fold_norms: bool) -> str:
    """Verdicts: present, explained_by_outlier_channels or _common_mean, partly_outlier_channels, undetermined, absent.

    Undetermined is what lies within the error of a null; depends_on_folding is what the two readings differ on.
    """
    names, cosines = listed([row["role"] for row in roles]), _by_role(roles, "cosine")
    end, vectors = END[roles[0]["side"]], VECTORS[roles[0]["side"]]
    several, unrelated = len(roles) > 1, f"unrelated weights give {roles[0]['unrelated']:.3f}"
    if verdict == "depends_on_folding":
        return (
            f"Whether {names} {'keep their' if several else 'keeps its'} {end} direction across layers depends on "
            f"folding: the mean |cos| of the first {vectors} singular vectors of neighbouring layers is "
            f"{_of_reading(roles, 'stored')} as the weights are stored, and {_of_reading(roles, 'folded')} with the "
            f"gains of the norms folded into them, where {unrelated}."
        )
    other = _other_reading(roles, fold_norms)
    if verdict == "absent":
        some = [row for row in roles if row["significant"]]
        exceptions = f" It is kept in {_significant(some)}." if some else ""
        return (
            f"{names} {'do' if several else 'does'} not keep {'their' if several else 'its'} leading direction across "
            f"layers: the mean |cos| of the first singular vectors of neighbouring layers is {cosines}, where "
            f"{unrelated}.{exceptions}{other}"
        )
    if verdict == "present":
        largest = max(row["largest_null"] for row in roles)
        return (
            f"{names} {'keep their' if several else 'keeps its'} {end} direction across layers: the mean |cos| of the "
            f"first {vectors} singular vectors of neighbouring layers is {cosines}, where {unrelated} and the "
            f"norm-matched, sign-flip and mean-matched nulls give {largest:.2f} at most.{other}"
        )
    subject = f"the {end} directions of {names}" if several else f"the {end} direction of {names}"
    appear = "appear" if several else "appears"
    if verdict == "explained_by_common_mean":
        shares = listed([f"{row['mean_share']:.0%}" for row in roles])
        return (
            f"A common mean of the entries explains {subject}, which only {appear} to persist across layers: the mean "
            f"|cos| of the first {vectors} singular vectors is {cosines}, where {unrelated}, and the mean-matched null "
            f"gives {_by_role(roles, 'mean_matched')}. The constant direction and that of the channels' norms make up "
            f"{shares} of these vectors (median over the layers).{other}"
        )
    if verdict == "undetermined":
        channels = listed([f"{row['channels']:.0f}" for row in roles])
        sentence = (
            f"Outlier channels may explain {subject}, which {appear} to persist across layers: the mean |cos| of the "
            f"first {vectors} singular vectors is {cosines}, and the largest null (norm-matched, sign-flip or "
            f"mean-matched) gives {_by_role(roles, 'largest_null')}, to within {law_error:.2f}. These vectors are "
            f"concentrated on about {channels} of {roles[0]['dimension']} channels."
        )
        return sentence + (other if drawn else f" Draws of norm-matched weights would settle this.{other}")
    sentence = (
        f"Outlier channels alone would give the average of {subject}, which {appear} to persist across layers: the "
        f"mean |cos| of the first {vectors} singular vectors is {cosines}, and the largest null (norm-matched, "
        f"sign-flip or mean-matched) gives {_by_role(roles, 'largest_null')}."
    )
    equal = f"With all channels scaled to one norm, the mean |cos| is {_by_role(roles, 'equal_norms')}"
    if verdict == "partly_outlier_channels":
        return f"{sentence} The other channels agree as well. {equal}, where {unrelated}.{other}"
    return f"{sentence} {equal}, no more than unrelated weights give.{other}"


def _other_reading(roles: Sequence[Row], fold_norms: bool) -> str:
    """The same in the reading that the other numbers are not of, for the roles that have one."""
    twice = [row for row in roles if row["readings"]]
    if not twice:
        return ""
    if fold_norms:
        return f" As the weights are stored, the mean |cos| is {_of_reading(twice, 'stored')}."
    return f" With the gains of the norms folded in, the mean |cos| is {_of_reading(twice, 'folded')}."


def _of_reading(roles: Sequence[Row], reading: str) -> str:
    """The numbers of the roles in a reading, with their largest null."""
    readings = [(row["role"], row["readings"][reading]) for row in roles]
    return listed(
        [f"{one['cosine']:.2f} for {role} (largest null {one['largest_null']:.2f})" for role, one in readings]
    )


def continuity_by_layer_pair(_verdict: str, *, side: str, false_discovery_rate: float, roles: Sequence[Row]) -> str:
    """Verdict: present."""
    told = []
    for row in roles:
        breaks, demoted = row["breaks_after"], row["demoted_after"]
        count = f"{row['significant']} of {row['layer_pairs']} for {row['role']}"
        if 0 < len(breaks) <= _NAMED_LAYERS:
            count += f" (lost after layer{'s' * (len(breaks) > 1)} {_numbers(breaks)}"
            where = "there" if demoted == breaks else f"after {_numbers(demoted)}" if demoted else ""
            count += f"; {where} it persists, but no longer as the top direction)" if where else ")"
        told.append(count)
    return (
        f"Counted by layer pairs, the {END[side]} direction is kept in {listed(told)}, at a false discovery rate of "
        f"{false_discovery_rate:.0%} against unrelated directions, random signs and a common mean."
    )


def stacked_continuity(verdict: str, *, roles: Sequence[Row], law_error: float) -> str:
    """Verdicts: present, explained_by_outlier_channels or _common_mean, undetermined, absent."""
    end, vectors = END[roles[0]["side"]], VECTORS[roles[0]["side"]]
    names, unrelated = listed([row["role"] for row in roles]), f"unrelated weights give {roles[0]['unrelated']:.3f}"
    measured = f"the mean |cos| of the first {vectors} singular vectors of neighbouring stacks is"
    cosines = _by_role(roles, "cosine")
    if verdict == "absent":
        some = [row for row in roles if row["significant"]]
        exceptions = f" It is kept in {_significant(some)}." if some else ""
        return (
            f"The experts of a layer, stacked, do not keep their leading {end} direction across layers ({names}): "
            f"{measured} {cosines}, where {unrelated}.{exceptions}"
        )
    if verdict == "present":
        largest = max(max(row["sign_flip"], row["mean_matched"], row["norm_matched"]) for row in roles)
        return (
            f"The experts of a layer, stacked, keep their {end} direction across layers ({names}): {measured} "
            f"{cosines}, where {unrelated} and the norm-matched, sign-flip and mean-matched nulls give {largest:.2f} "
            f"at most. It is kept in {_significant(roles)}."
        )
    appears = f"the {end} direction of stacked experts ({names}), which"
    if verdict == "undetermined":
        channels = listed([f"{row['channels']:.0f}" for row in roles])
        return (
            f"Outlier channels may explain {appears} appears to persist across layers: {measured} {cosines}, where "
            f"{unrelated} and the norm-matched null gives {_by_role(roles, 'norm_matched')}, to within "
            f"{law_error:.2f}. These vectors are concentrated on about {channels} of {roles[0]['dimension']} channels."
        )
    what, null, told = {
        "explained_by_outlier_channels": ("Outlier channels explain", "outlier_channels", "norm-matched or sign-flip"),
        "explained_by_common_mean": ("A common mean of the entries explains", "mean_matched", "mean-matched"),
    }[verdict]
    return (
        f"{what} {appears} only appears to persist across layers: {measured} {cosines}, where {unrelated}, and the "
        f"{told} null gives {_by_role(roles, null)}."
    )


def matched_experts(verdict: str, *, roles: Sequence[Row]) -> str:
    """Verdicts: present, explained_by_outlier_channels, _common_mean or _common_directions, absent."""
    names, verb = listed([row["role"] for row in roles]), roles[0]["side"]
    measured = f"matched one to one by what they {verb}, the experts of neighbouring layers overlap by"
    overlaps = f"{_by_role(roles, 'overlap')} on average"
    unrelated = f"unrelated experts matched in the same way give {roles[0]['unrelated']:.2f}"
    if verdict == "absent":
        some = [row for row in roles if row["significant"]]
        exceptions = f" They overlap more than any null gives in {_significant(some)}." if some else ""
        return (
            f"Single experts do not continue in the next layer ({names}): {measured} {overlaps}, where {unrelated}."
            f"{exceptions}"
        )
    if verdict == "present":
        largest = max(max(row["sign_flip"], row["mean_matched"]) for row in roles)
        return (
            f"Single experts continue in experts of the next layer ({names}): {measured} {overlaps}, where {unrelated} "
            f"and the sign-flip and mean-matched nulls give {largest:.2f} at most. Any two experts overlap by "
            f"{_by_role(roles, 'any_two')}. Partners stand out in {_significant(roles)}."
        )
    what, null = {
        "explained_by_outlier_channels": (
            "Outlier channels explain",
            f"random signs give {_by_role(roles, 'sign_flip')}",
        ),
        "explained_by_common_mean": (
            "A common mean of the entries explains",
            f"the mean-matched null gives {_by_role(roles, 'mean_matched')}",
        ),
        "explained_by_common_directions": (
            "Directions that all experts have in common explain",
            f"any two experts, matched or not, overlap by {_by_role(roles, 'any_two')}",
        ),
    }[verdict]
    return (
        f"{what} why single experts seem to continue in the next layer ({names}): {measured} {overlaps}, where "
        f"{unrelated}, and {null}."
    )


def alignment_over_depth(verdict: str, *, roles: Sequence[str], near: float, far: float, layers_apart: int) -> str:
    """Verdicts: decays, persists."""
    answer = "decays with depth" if verdict == "decays" else "persists over the whole depth"
    return (
        f"Alignment {answer}: the leading subspaces of layers {layers_apart} or more apart overlap with an effect size "
        f"of {far:.2f}, those of neighbouring layers with {near:.2f} (mean over {listed(roles)}; 0 is the "
        "largest null, 1 the same subspace)."
    )


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
        f"heads{beyond}: {_first_few(heads)}.{advice}"
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
    told = listed([f"{_share(share)} the {what}" for what, share in shares.items()])
    return (
        f"Some numbers depend on the basis that training happened to choose: {'with' if fold_norms else 'without'} "
        f"norm gains folded in, the numbers of {told} are basis-independent, that is, unchanged by every change of "
        "basis that preserves the network's function. Compare the others within one network, not between networks."
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


# Of an alignment graph.


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
        f"the modularity is {modularity['value']:.2f}, and {_random(modularity)} in random graphs of the same degrees"
    )
    if verdict == "absent":
        return f"Subspaces that share directions form no communities beyond those of random graphs: {measured}."
    more_by_role = roles["value"] - roles["random"] > layers["value"] - layers["random"]
    sentence = (
        f"Subspaces that share directions form {communities} communities, the largest of {largest}, which stand "
        f"out from random graphs more by {'role than by layer' if more_by_role else 'layer than by role'}: {measured}. "
        f"Their normalised mutual information is {roles['value']:.2f} with roles (random graphs {_random(roles)}) and "
        f"{layers['value']:.2f} with layers ({_random(layers)})."
    )
    if depth["value"] is None:
        return sentence
    return (
        f"{sentence} {depth['value']:.0%} of the variance in depth lies between communities (random graphs "
        f"{_random(depth, '.0%')})."
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
        + ("" if row["random_sd"] is None else f" (random graphs of the same degrees {_random(row, '.1f', 'none')})")
        for noun, row in (("larger group", larger_groups), ("pair", pairs))
        if row["value"]
    ]
    return (
        f"The leading directions of heads of one role overlap strongly in {listed(counts)}. In the largest, every two "
        f"heads have an excess of at least {least_excess:.2f} over the largest null: {_first_few(heads)}."
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


def similar_layers(_verdict: str, *, pairs: Sequence[Row], largest_elsewhere: float) -> str:
    """Verdict: present."""
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


# Of a comparison.


def tensor_change(
    verdict: str,
    *,
    version: str | None,
    tensors: int,
    changed: int,
    low_rank: int,
    ranks: Sequence[int],
    full: int,
    others: int,
    layers: Sequence[int],
    rank_90: float | None,
    rank_99: float | None,
    added: int,
    removed: int,
    within_precision: int,
    unknown: int,
) -> str:
    """Verdicts: present, same, within_storage_precision, adapter_zero, adapter_not_merged."""
    opening = f"{version}: " if version else ""
    rest = f" {counted(unknown, 'tensor')} could not be compared." if unknown else ""
    if verdict != "present":
        answer = {
            "same": f"the two files are the same: {counted(tensors, 'tensor')} of equal numbers.",
            "within_storage_precision": "no tensor changed beyond storage precision: rounding explains how "
            f"{within_precision} of {tensors} tensors differ.",
            "adapter_zero": "the adapter is zero: merging it changes nothing.",
            "adapter_not_merged": f"the adapter was not merged: the {tensors} tensors are those of the base.",
        }[verdict]
        return opening + (answer if version else answer[0].upper() + answer[1:]) + rest
    spelt = f"of rank {ranks[0]}" + (f" to {ranks[-1]}" if len(ranks) > 1 else "") if ranks else ""
    kinds = {spelt: low_rank, "not of low rank": full, "no matrix" if others == 1 else "no matrices": others}
    present = [(kind, count) for kind, count in kinds.items() if count]
    alone = "" if changed == 1 else "all "
    named = [f"{count} {kind}" if len(present) > 1 else f"{alone}{kind}" for kind, count in present]
    where = f"; {'layer' if len(layers) == 1 else 'layers'} {_ranges(layers)}" if layers else ""
    answer = f"{changed} of {tensors} tensors changed{f', {listed(named)}' if named else ''}{where}."
    if within_precision:
        answer += f" {within_precision} more differ within storage precision."
    for count, found in ((removed, "missing"), (added, "new")):
        if count:
            answer += f" {counted(count, 'tensor')} {'is' if count == 1 else 'are'} {found}."
    if rank_90 is not None and rank_99 is not None:
        answer += (
            f" Of the changes that are not of low rank, half hold 90 % of their squared norm in at most {rank_90:.0f} "
            f"directions and 99 % in at most {rank_99:.0f}."
        )
    return opening + answer + rest


def interference(verdict: str, **numbers: Any) -> str:
    """Verdicts: shared, same_change, explained_by_base, as_unrelated, absent."""
    if verdict == "absent":
        return "B and C changed no matrix in common: a merge keeps their changes apart."
    if verdict == "same_change":
        return (
            f"B and C make the same change to {_matrices(numbers['matrices'])}, up to its size: the mean cosine of the "
            f"two is {numbers['cosine']:.2f}."
        )
    ends = [
        f"{row['overlap']:.2f} for the {END[side]}s (random subspaces of these ranks: {row['null_mean']:.2f}, those "
        f"that lie as much in the base's leading subspace: {row['base_mean']:.2f})"
        for side, row in ((side, numbers[side]) for side in END)
    ]
    answer = {
        "shared": "more than the base explains: a merge mixes them",
        "explained_by_base": "as changes that keep to the base's leading subspace do",
        "as_unrelated": "no more than random subspaces: a merge hardly mixes them",
    }[verdict]
    return (
        f"B and C both changed {_matrices(numbers['matrices'])}. The leading directions of their changes overlap by "
        f"{listed(ends)}, {answer}. The mean cosine of the two changes is {numbers['cosine']:.2f}."
    )


def weight_change(verdict: str, **numbers: Any) -> str:
    """Verdicts: present, absent, within_storage_precision, undetermined (a saved analysis has no matrices)."""
    if verdict == "undetermined":
        return (
            "Changes of the weights themselves were not measured: one of the two is a saved analysis, which holds "
            "leading subspaces but no matrices."
        )
    if verdict == "absent":
        return "No weight that was compared changed: they are equal, and all distances are 0."
    weights, changed, within = (numbers[name] for name in ("weights", "changed", "within_precision"))
    if verdict == "within_storage_precision":
        return (
            f"No weight changed beyond storage precision: {within} of {weights} weights differ, by at most "
            f"{numbers['largest_norm']:.1e} of their norm."
        )
    # A list of nearly everything tells nothing.
    named = f" ({_places(numbers['where'])})" if changed <= weights / 2 else ""
    rest = f" {within} more differ within storage precision." if within else ""
    return (
        f"{changed} of {weights} weights changed beyond storage precision{named}, by a median of "
        f"{numbers['median_norm']:.2g} of their norm.{rest}"
    )


def relatedness(_verdict: str, *, effect_size: float) -> str:
    """Verdict: absent."""
    return (
        f"The two networks look unrelated: their leading subspaces overlap with a mean effect size of "
        f"{effect_size:.2f}. Distances between them mean something only if one was trained from the other, in the same "
        "basis."
    )


def movement(verdict: str, **numbers: Any) -> str:
    """Verdicts: present, absent."""
    if verdict == "absent":
        return "No leading subspace moved."
    named = [f"{degrees(row['rms_angle'])} for the {END[row['side']]}s of {row['name']}" for row in numbers["farthest"]]
    return (
        f"{_moved_most(numbers)} (root mean square principal angle, mean over the layers where they moved). The "
        f"farthest moves of single subspaces are {listed(named)}."
    )


def first_direction_turned(_verdict: str, *, turned: int, subspaces: int, angle: float) -> str:
    """Verdict: present."""
    return (
        f"The first direction itself turned by more than {degrees(angle)} in {turned} of {subspaces} subspaces, "
        "although the spectrum determines it in both networks."
    )


def low_rank_change(
    verdict: str,
    *,
    low_rank: int,
    changed: int,
    ranks: Sequence[int],
    where: Sequence[Row],
    least_rank: int,
    median_effective_rank: float,
) -> str:
    """Verdicts: present, absent."""
    if verdict == "absent" and isnan(median_effective_rank):
        return f"No change is of low rank: each has {least_rank} or more directions above storage precision."
    if verdict == "absent":
        return f"No change is of low rank: the median effective rank of a change is {median_effective_rank:.0f}."
    spelt = f"rank {ranks[0]}" if len(ranks) == 1 else f"rank {ranks[0]} to {ranks[-1]}"
    many = "All changes are" if low_rank == changed else f"{low_rank} of {changed} changes are"
    return (
        f"{many} of low rank, as those of a LoRA adapter are: {spelt}, as far as storage precision shows, in "
        f"{_places(where)}."
    )


def change_against_base(
    verdict: str,
    *,
    side: str,
    overlap: float,
    unrelated: float,
    z: float,
    trailing: float,
    trailing_unrelated: float,
) -> str:
    """Verdicts: inside, partly_inside, outside, as_unrelated."""
    answer = {
        "inside": "lie mostly inside the base's leading subspace",
        "partly_inside": "lie inside the base's leading subspace more than unrelated changes would",
        "outside": "avoid the base's leading subspace",
        "as_unrelated": "overlap the base's leading subspace no more and no less than unrelated changes would",
    }[verdict]
    return (
        f"The {END[side]} directions of the low-rank changes {answer}: the overlap is {overlap:.2f}, where unrelated "
        f"directions give {unrelated:.2f} (z = {z:.1f})."
    ) + (
        ""
        if isnan(trailing)
        else f" {trailing:.0%} of them lie in the trailing half of the base's singular directions (unrelated: "
        f"{trailing_unrelated:.0%})."
    )


def intruder_dimensions(_verdict: str, *, read: int, write: int, weights: int) -> str:
    """Verdict: present."""
    return (
        f"Intruder dimensions appeared in {counted(weights, 'weight')}: {read} leading input and {write} leading "
        "output directions resemble no singular direction of the base (no |cos| of 0.5 or more)."
    )


def largest_measured_change(
    _verdict: str,
    *,
    observable: str,
    mean_change: float,
    relative_mean_change: float,
    rows: int,
    at: str,
    before: float,
    after: float,
) -> str:
    """Verdict: present."""
    return (
        f"The measurement that changed most is {observable}: by {mean_change:.2g} on average over "
        f"{counted(rows, 'measurement')}, which is {relative_mean_change:.2g} of its standard deviations over the "
        f"first network. It changed most at {at}: {before:.2f} → {after:.2f}."
    )


def graph_edges_changed(
    _verdict: str, *, appeared: int, vanished: int, source: str, target: str, before: float, after: float
) -> str:
    """Verdict: present."""
    return (
        f"The alignment graph gained {counted(appeared, 'edge')} and lost {vanished}. The largest change of overlap "
        f"among them is {before:.2f} → {after:.2f}, between {source} and {target}."
    )


# Of a trace.


def first_direction_replaced(_verdict: str, *, events: int, steps: int, named: Sequence[Row]) -> str:
    """Verdict: present."""
    told = [
        f"at step {row['step']} in {_places(row['where'])}, where the first direction turned by "
        f"{row['first_direction_degrees']:.0f}° since step {row['since_step']} and the leading subspace by "
        f"{row['subspace_degrees']:.0f}° (medians)"
        for row in named
    ]
    if steps > len(named):
        told.append(f"the rest at {counted(steps - len(named), 'other step')}")
    opening = "A new first direction took over" + (f" in {events} cases" if events > 1 else "")
    return f"{opening}: {'; '.join(told)}."


def update_rank(
    _verdict: str,
    *,
    measure: str,
    first_step: int,
    first: float,
    last_step: int,
    last: float,
    updates: int,
    low_rank: int,
    ranks: Sequence[int],
) -> str:
    """Verdict: present."""
    answer = f"The update up to step {first_step} has a median {measure} rank of {first:.1f}"
    if last_step != first_step:
        answer += f", the last one, up to step {last_step}, of {last:.1f}"
    answer += "."
    if not low_rank:
        return answer
    spelt = f"rank {ranks[0]}" + (f" to {ranks[-1]}" if len(ranks) > 1 else "")
    which = f"All {updates}" if low_rank == updates else f"{low_rank} of {updates}"
    return f"{answer} {which} updates of single weights are of low rank: {spelt}."


def continuity_change(verdict: str, **numbers: Any) -> str:
    """Verdicts: rose, fell, absent, undetermined."""
    if verdict == "undetermined":
        return "Continuity cannot be followed: no role has two layers that share a space."
    if verdict == "absent":
        return (
            "Continuity did not change: for no role did the mean |cos| of the first singular vectors of neighbouring "
            f"layers change by more than {numbers['standard_deviations']:.0f} standard deviations of unrelated weights."
        )
    side = numbers["side"]
    told = [
        f"from {row['first']:.2f} to {row['last']:.2f} for {row['role']} (half done by step {row['half_step']})"
        for row in numbers["roles"]
    ]
    return (
        f"The continuity of {END[side]} directions {verdict}: the mean |cos| of the first {VECTORS[side]} singular "
        f"vectors of neighbouring layers went {listed(told)}; unrelated weights give {numbers['unrelated']:.3f}."
    )


def order_of_changes(_verdict: str, *, earliest: Row, latest: Row) -> str:
    """Verdict: present."""
    first, last = (
        f"{row['role']} ({END[row['side']]}s, half done by step {row['half_step']})" for row in (earliest, latest)
    )
    return f"Of these changes, that of {first} came first and that of {last} last."


def steepest_change(
    _verdict: str, *, role: str, side: str, from_step: int, to_step: int, before: float, after: float
) -> str:
    """Verdict: present."""
    return (
        f"The largest change of mean |cos| between two neighbouring checkpoints is {before:.2f} → {after:.2f}, in the "
        f"{END[side]} directions of {role} from step {from_step} to step {to_step}."
    )


def drift(verdict: str, **numbers: Any) -> str:
    """Verdicts: present, absent."""
    if verdict == "absent":
        return "No leading subspace moved from one checkpoint to another."
    sentence = (
        f"{_moved_most(numbers)} from step {numbers['first_step']} to step {numbers['last_step']} (root mean square "
        "principal angle, mean over the layers)."
    )
    if not numbers["latest"]:
        return sentence
    named = listed([f"the {END[row['side']]}s of {row['role']}" for row in numbers["latest"]])
    return (
        f"{sentence} The last to complete half of their movement, by step {numbers['latest_half_step']}, are {named}."
    )


def largest_move_of_a_role(
    _verdict: str, *, role: str, side: str, rms_angle: float, from_step: int, to_step: int
) -> str:
    """Verdict: present."""
    return (
        f"The largest move of a role between two neighbouring checkpoints is {degrees(rms_angle)}, of the {END[side]} "
        f"subspaces of {role} from step {from_step} to step {to_step}."
    )


def farthest_subspace(
    _verdict: str,
    *,
    name: str,
    side: str,
    rms_angle: float,
    overlap: float,
    unrelated: float,
    mean_overlap: float,
    mean_unrelated: float,
) -> str:
    """Verdict: present."""
    return (
        f"The subspace that moved farthest over the run is the {END[side]} side of {name}, by {degrees(rms_angle)}: "
        f"its overlap with its start is {overlap:.2f}, where unrelated subspaces give {unrelated:.3f}. On average "
        f"{mean_overlap:.0%} of a leading subspace remains at the end (unrelated: {mean_unrelated:.0%})."
    )


def effective_rank_change(verdict: str, *, role: str, first: float, last: float) -> str:
    """Verdicts: rose, fell."""
    return (
        f"The effective rank {verdict} most, in relative terms, for {role}: from {first:.1f} to {last:.1f}, mean over "
        "the layers."
    )


def _moved_most(numbers: Row) -> str:
    return f"The {END[numbers['side']]} subspaces of {numbers['role']} moved most, by {degrees(numbers['rms_angle'])}"


def _by_role(roles: Sequence[Row], number: str) -> str:
    """The numbers of the roles, which a single role needs no name for."""
    return listed([f"{row[number]:.2f} for {row['role']}" if len(roles) > 1 else f"{row[number]:.2f}" for row in roles])


def _share(share: float) -> str:
    """A share of what a noun phrase with its article names."""
    if 0 < share < 0.01:
        return "under 1% of"
    return {0.0: "none of", 1.0: "all"}.get(share, f"{share:.0%} of")


def _significant(roles: Sequence[Row]) -> str:
    units = [" layer pairs", *[""] * (len(roles) - 1)]
    return listed(
        [
            f"{row['significant']} of {row['layer_pairs']}{unit} for {row['role']}"
            for row, unit in zip(roles, units, strict=True)
        ]
    )


def _numbers(layers: Sequence[int]) -> str:
    return listed([str(layer) for layer in layers])


def _matrices(number: int) -> str:
    return "1 matrix" if number == 1 else f"{number} matrices"


def _first_few(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_HEADS
    return listed([*names[:_NAMED_HEADS], f"{more} more"] if more > 1 else names)


def _random(row: Row, form: str = ".2f", nothing: str = "0") -> str:
    """What random graphs give, with its spread; where that is nothing in all of them, in a word."""
    if row["random"] == row["random_sd"] == 0:
        return nothing
    return with_spread(row["random"], row["random_sd"], form)


def _places(where: Sequence[Row]) -> str:
    """Roles and the layers that they are from: q of layers 3 to 5."""
    return listed([f"{row['role']} of {_layers(row['layers'])}" if row["layers"] else row["role"] for row in where])


def _layers(layers: Sequence[int]) -> str:
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    if len(layers) > _NAMED_LAYERS:
        return f"{len(layers)} layers from {layers[0]} to {layers[-1]}"
    return f"layers {_numbers(layers)}"


def _ranges(layers: Sequence[int]) -> str:
    """Numbers as the command line takes them: 0, 2-5."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
