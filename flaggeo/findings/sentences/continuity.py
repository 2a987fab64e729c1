"""Of directions and experts that continue from layer to layer."""

from collections.abc import Sequence

from ..words import END, VECTORS, listed
from .phrases import NAMED_LAYERS, Row, by_role, listed_numbers, significant_pairs


def comparable_weights(_verdict: str) -> str:
    """Verdict: absent."""
    return "Nothing could be compared: no two of the weights share a space."


def continuity(verdict: str, *, roles: Sequence[Row], drawn: bool, law_error: float, fold_norms: bool) -> str:
    """Verdicts: present, explained_by_outlier_channels or _common_mean, partly_outlier_channels, undetermined, absent.

    Undetermined is what lies within the error of a null; depends_on_folding is what the two readings differ on.
    """
    names, cosines = listed([row["role"] for row in roles]), by_role(roles, "cosine")
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
        exceptions = f" It is kept in {significant_pairs(some)}." if some else ""
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
            f"gives {by_role(roles, 'mean_matched')}. The constant direction and that of the channels' norms make up "
            f"{shares} of these vectors (median over the layers).{other}"
        )
    if verdict == "undetermined":
        channels = listed([f"{row['channels']:.0f}" for row in roles])
        sentence = (
            f"Outlier channels may explain {subject}, which {appear} to persist across layers: the mean |cos| of the "
            f"first {vectors} singular vectors is {cosines}, and the largest null (norm-matched, sign-flip or "
            f"mean-matched) gives {by_role(roles, 'largest_null')}, to within {law_error:.2f}. These vectors are "
            f"concentrated on about {channels} of {roles[0]['dimension']} channels."
        )
        return sentence + (other if drawn else f" Draws of norm-matched weights would settle this.{other}")
    sentence = (
        f"Outlier channels alone would give the average of {subject}, which {appear} to persist across layers: the "
        f"mean |cos| of the first {vectors} singular vectors is {cosines}, and the largest null (norm-matched, "
        f"sign-flip or mean-matched) gives {by_role(roles, 'largest_null')}."
    )
    equal = f"With all channels scaled to one norm, the mean |cos| is {by_role(roles, 'equal_norms')}"
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
        if 0 < len(breaks) <= NAMED_LAYERS:
            count += f" (lost after layer{'s' * (len(breaks) > 1)} {listed_numbers(breaks)}"
            where = "there" if demoted == breaks else f"after {listed_numbers(demoted)}" if demoted else ""
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
    cosines = by_role(roles, "cosine")
    if verdict == "absent":
        some = [row for row in roles if row["significant"]]
        exceptions = f" It is kept in {significant_pairs(some)}." if some else ""
        return (
            f"The experts of a layer, stacked, do not keep their leading {end} direction across layers ({names}): "
            f"{measured} {cosines}, where {unrelated}.{exceptions}"
        )
    if verdict == "present":
        largest = max(max(row["sign_flip"], row["mean_matched"], row["norm_matched"]) for row in roles)
        return (
            f"The experts of a layer, stacked, keep their {end} direction across layers ({names}): {measured} "
            f"{cosines}, where {unrelated} and the norm-matched, sign-flip and mean-matched nulls give {largest:.2f} "
            f"at most. It is kept in {significant_pairs(roles)}."
        )
    appears = f"the {end} direction of stacked experts ({names}), which"
    if verdict == "undetermined":
        channels = listed([f"{row['channels']:.0f}" for row in roles])
        return (
            f"Outlier channels may explain {appears} appears to persist across layers: {measured} {cosines}, where "
            f"{unrelated} and the norm-matched null gives {by_role(roles, 'norm_matched')}, to within "
            f"{law_error:.2f}. These vectors are concentrated on about {channels} of {roles[0]['dimension']} channels."
        )
    what, null, told = {
        "explained_by_outlier_channels": ("Outlier channels explain", "outlier_channels", "norm-matched or sign-flip"),
        "explained_by_common_mean": ("A common mean of the entries explains", "mean_matched", "mean-matched"),
    }[verdict]
    return (
        f"{what} {appears} only appears to persist across layers: {measured} {cosines}, where {unrelated}, and the "
        f"{told} null gives {by_role(roles, null)}."
    )


def matched_experts(verdict: str, *, roles: Sequence[Row]) -> str:
    """Verdicts: present, explained_by_outlier_channels, _common_mean or _common_directions, absent."""
    names, verb = listed([row["role"] for row in roles]), roles[0]["side"]
    measured = f"matched one to one by what they {verb}, the experts of neighbouring layers overlap by"
    overlaps = f"{by_role(roles, 'overlap')} on average"
    unrelated = f"unrelated experts matched in the same way give {roles[0]['unrelated']:.2f}"
    if verdict == "absent":
        some = [row for row in roles if row["significant"]]
        exceptions = f" They overlap more than any null gives in {significant_pairs(some)}." if some else ""
        return (
            f"Single experts do not continue in the next layer ({names}): {measured} {overlaps}, where {unrelated}."
            f"{exceptions}"
        )
    if verdict == "present":
        largest = max(max(row["sign_flip"], row["mean_matched"]) for row in roles)
        return (
            f"Single experts continue in experts of the next layer ({names}): {measured} {overlaps}, where {unrelated} "
            f"and the sign-flip and mean-matched nulls give {largest:.2f} at most. Any two experts overlap by "
            f"{by_role(roles, 'any_two')}. Partners stand out in {significant_pairs(roles)}."
        )
    what, null = {
        "explained_by_outlier_channels": (
            "Outlier channels explain",
            f"random signs give {by_role(roles, 'sign_flip')}",
        ),
        "explained_by_common_mean": (
            "A common mean of the entries explains",
            f"the mean-matched null gives {by_role(roles, 'mean_matched')}",
        ),
        "explained_by_common_directions": (
            "Directions that all experts have in common explain",
            f"any two experts, matched or not, overlap by {by_role(roles, 'any_two')}",
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
