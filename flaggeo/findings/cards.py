"""What a person in a hurry reads: up to six findings, each as a verdict, one number with its baseline, and a place."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .finding import Finding, large_or_small
from .words import END, counted, listed, short_name

_MOST = 6
# Heads that a number names.
_NAMED = 4

# Verdicts on continuity that rest on the other reading, or on the number for equal norms, which stand in one table.
_IN_READINGS = ("depends_on_folding", "partly_outlier_channels", "explained_by_outlier_channels")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Card:
    """A finding in the words of a card.

    Attributes
    ----------
    verdict : str
        Of the finding, or ``not_measured``.
    badge : str
        The verdict in a word or three.
    title, number, baseline, detail : str
        Plain text. The baseline says of what the number is, and what unrelated weights give.
    place : str
        Anchor of the section of the page that shows it.
    lines : tuple of (str, str)
        Where the finding is about roles over the layers: the role and side of each profile to draw.
    nulls : tuple of float
        Of each role the largest null, where that explains the number.
    bar : tuple of float or None
        Where it is one value on a scale: the value and its largest null, as shares of what is possible.
    picked : tuple of str
        Names of the subspaces that it is about, to be selected where the page shows them.
    readings : tuple of (str, str)
        Where norms stand beside the weights: what a reading of them is called, and its numbers.
    """

    verdict: str
    badge: str
    title: str
    number: str
    baseline: str
    detail: str
    place: str
    lines: tuple[tuple[str, str], ...] = ()
    nulls: tuple[float, ...] = ()
    bar: tuple[float, float] | None = None
    picked: tuple[str, ...] = ()
    readings: tuple[tuple[str, str], ...] = ()

    @property
    def told(self) -> str:
        """The number where there is one line for it: that of both readings where the verdict depends on them.

        With plain spaces, since a console spells all others out.
        """
        if self.verdict != "depends_on_folding":
            return self.number
        return "; ".join(f"{name} {numbers}" for name, numbers in self.readings).replace("\N{NO-BREAK SPACE}", " ")


def cards(findings: Sequence[Finding], missing: Mapping[str, str]) -> list[Card]:
    """The cards of an analysis, the most important first.

    Parameters
    ----------
    findings : sequence of Finding
        From `flaggeo.findings.findings`.
    missing : mapping of str to str
        Measurements that were not asked for, and what each would say.

    Returns
    -------
    cards : list of Card
        At most six. The last says what was not measured, if anything was not.
    """
    found = [_CARDS[finding.kind](finding) for kind in _CARDS for finding in findings if finding.kind == kind]
    unmeasured = [_not_measured(missing)] if missing else []
    return found[: _MOST - len(unmeasured)] + unmeasured


def _continuity(finding: Finding) -> Card:
    roles = sorted(finding.numbers["roles"], key=lambda row: -row["cosine"])
    stacked = finding.kind == "stacked_continuity"
    whose = f"{END[roles[0]['side']].capitalize()} directions" + (" of stacked experts" if stacked else "")
    titles = {
        "present": f"{whose} persist across layers",
        "explained_by_outlier_channels": f"{whose} are no more aligned, on average, than outlier channels give",
        "partly_outlier_channels": f"{whose} persist, most of all in outlier channels",
        "explained_by_common_mean": f"{whose} are no more aligned, on average, than a common mean of the entries gives",
        "undetermined": f"{whose} look aligned; outlier channels may explain it",
        "depends_on_folding": f"Whether {whose[0].lower()}{whose[1:]} persist depends on the norms",
        "absent": f"Leading directions change from layer to layer: {listed([row['role'] for row in roles])}",
    }
    badges = {
        "present": "carried across layers",
        "explained_by_outlier_channels": "outlier channels",
        "partly_outlier_channels": "partly outlier channels",
        "explained_by_common_mean": "common mean",
        "undetermined": "undetermined",
        "depends_on_folding": "depends on folding",
        "absent": "null level",
    }
    baseline = f"mean |cos| of neighbouring layers; unrelated weights {roles[0]['unrelated']:.3f}"
    if finding.verdict == "present":
        baseline += f", other nulls at most {max(map(_largest_null, roles)):.2f}"
    elif finding.verdict == "partly_outlier_channels":
        baseline += f"; with all channels at one norm {_by_role(roles, 'equal_norms')}"
    elif finding.verdict not in ("absent", "depends_on_folding"):
        baseline += f", largest null {_by_role(roles, 'largest_null')}"
    counts = listed([f"{row['significant']} of {row['layer_pairs']} for {row['role']}" for row in roles])
    measured = ""
    if any(row.get("readings") for row in roles):
        measured = ", norms folded in" if finding.numbers["fold_norms"] else ", as stored"
    takes_nulls = finding.verdict not in ("present", "depends_on_folding", "absent")
    return Card(
        verdict=finding.verdict,
        badge=badges[finding.verdict],
        title=titles[finding.verdict],
        number=_by_role(roles, "cosine"),
        baseline=baseline,
        detail=f"Layer pairs that stand out from unrelated weights, random signs and a common mean{measured}: "
        f"{counts}.",
        place="readings" if finding.verdict in _IN_READINGS and finding.place == "continuity" else finding.place,
        lines=tuple((row["role"], row["side"]) for row in roles),
        nulls=tuple(row["largest_null"] for row in roles) if takes_nulls else (),
        readings=_readings(roles, with_nulls=finding.verdict == "depends_on_folding"),
    )


def _readings(roles: Sequence[Row], *, with_nulls: bool) -> tuple[tuple[str, str], ...]:
    """The roles as their weights are stored and with the norms folded in, where norms stand beside any of them."""
    if not any(row.get("readings") for row in roles):
        return ()
    names = {"as stored": "stored", "norms folded in": "folded"}
    return tuple(
        (name, _parts(_of_reading(row, reading, with_nulls) for row in roles)) for name, reading in names.items()
    )


def _largest_null(row: Row) -> float:
    """Of a role, in either reading."""
    both = row.get("readings") or {"either": row}
    return max(float(one["largest_null"]) for one in both.values())


def _of_reading(row: Row, reading: str, with_null: bool) -> str:
    one = row["readings"][reading] if row["readings"] else row
    # A role and its number stay together in a narrow column.
    return f"{row['role']}\N{NO-BREAK SPACE}{one['cosine']:.2f}" + f" (null {one['largest_null']:.2f})" * with_null


def _redundant_heads(finding: Finding) -> Card:
    numbers = finding.numbers
    named = [short_name(name) for name in numbers["heads"]]
    return Card(
        verdict=finding.verdict,
        badge=_BADGES[finding.verdict],
        title="Heads that repeat each other",
        number=", ".join(named[:_NAMED]) + (" …" if len(named) > _NAMED else ""),
        baseline=f"overlap effect size {numbers['effect_size']:.0%} (0%: unrelated, 100%: the same subspace)",
        detail=f"{counted(numbers['groups'], 'group')} of such heads at full width. In SmolLM2, sharing did not "
        "predict what a head is worth, so this is no reason to prune.",
        place=finding.place,
        bar=(numbers["effect_size"], 0.0),
        picked=tuple(numbers["heads"]),
    )


def _heads_feeding(finding: Finding) -> Card:
    numbers, strongest = finding.numbers, finding.numbers["links"][0]
    dimensions = strongest["dimensions"]
    return Card(
        verdict=finding.verdict,
        badge=_BADGES[finding.verdict],
        title="Heads that write what later heads read",
        number=f"{short_name(strongest['source'])} → {short_name(strongest['target'])}",
        baseline=f"{strongest['shared']:.1f} of {dimensions} dimensions shared; unrelated heads "
        f"{numbers['unrelated']:.1f}, largest null {numbers['largest_null']:.1f}",
        detail=f"The strongest of {counted(numbers['significant'], 'significant pair')}.",
        place=finding.place,
        bar=(strongest["shared"] / dimensions, numbers["largest_null"] / dimensions),
        picked=(strongest["source"], strongest["target"]),
    )


def _composed_weights(finding: Finding) -> Card:
    numbers = finding.numbers
    titles = {
        "present": "Weights that compose are aligned",
        "small": "Weights that compose are slightly aligned",
        "explained_by_common_mean": "Weights that compose look aligned, but a common mean explains it",
        "below_chance": "Weights that compose overlap less than chance",
    }
    below, overlaps = numbers["below_chance"], {row["kind"]: row["overlap"] for row in numbers["kinds"]}
    nulls = {
        row["kind"]: [row[null] for null in ("unrelated", "sign_flip", "mean_matched")] for row in numbers["kinds"]
    }
    detail = f"Over the layers, the mean is more than {numbers['standard_errors']} standard errors"
    if finding.verdict == "below_chance":
        shown, null = below, f"smallest null {_parts(f'{min(nulls[kind]):.3f}' for kind in below)}"
        detail += " below the null."
    else:
        shown = numbers["aligned"]
        null = f"largest null {_parts(f'{max(nulls[kind]):.3f}' for kind in shown)}"
        detail += " above the null."
        if 0 < len(numbers["small"]) < len(shown):
            detail += f" The effect is small for {listed(numbers['small'])}."
        if below:
            told = [f"{kind} ({overlaps[kind]:.3f}, smallest null {min(nulls[kind]):.3f})" for kind in below]
            detail += f" Below chance: {listed(told)}."
        if numbers["under_null"]:
            told = [f"{kind} ({overlaps[kind]:.3f}, null {max(nulls[kind]):.3f})" for kind in numbers["under_null"]]
            detail += f" Below the largest null: {listed(told)}."
    return Card(
        verdict=finding.verdict,
        badge=_BADGES[finding.verdict],
        title=titles[finding.verdict],
        number=_parts(f"{kind} {overlaps[kind]:.3f}" for kind in shown),
        baseline=f"overlap of leading subspaces; {null}",
        detail=detail,
        place=finding.place,
    )


def _strongest_overlap(finding: Finding) -> Card:
    numbers = finding.numbers
    return Card(
        verdict=finding.verdict,
        badge=_BADGES[finding.verdict],
        title=f"Strongest {numbers['pair_kind']} overlap",
        number=f"{short_name(numbers['source'])} and {short_name(numbers['target'])}",
        baseline=f"overlap {numbers['overlap']:.2f}; unrelated subspaces {numbers['unrelated']:.3f}",
        detail=f"The largest of {counted(numbers['pairs'], 'pair')}.",
        place=finding.place,
        bar=(numbers["overlap"], numbers["unrelated"]),
        picked=(numbers["source"], numbers["target"]),
    )


def _similar_layers(finding: Finding) -> Card:
    numbers, title = finding.numbers, "Layers most alike"
    if finding.verdict == "absent":
        number, baseline = "no neighbours", "none are clearly more alike than layers further apart"
        return Card("absent", _BADGES["absent"], title, number, baseline, "", finding.place)
    strongest = numbers["pairs"][0]["mean_excess"]
    verdict = large_or_small(strongest)
    baseline = f"mean excess over the largest null {strongest:.2f}; layers further apart at most "
    return Card(
        verdict=verdict,
        badge=_BADGES[verdict],
        title=title,
        number=_parts(f"{row['layer']} and {row['next_layer']}" for row in numbers["pairs"]),
        baseline=f"{baseline}{numbers['largest_elsewhere']:.2f}",
        detail="",
        place=finding.place,
    )


def _comparable_weights(finding: Finding) -> Card:
    return Card(finding.verdict, _BADGES["absent"], "Nothing to compare", "–", finding.sentence, "", finding.place)


def _not_measured(missing: Mapping[str, str]) -> Card:
    return Card(
        verdict="not_measured",
        badge="not measured",
        title=listed(list(missing)).capitalize(),
        number="--measure all",
        baseline="adds what is not measured here",
        detail=f"They say {'; '.join(missing.values())}."
        if len(missing) > 1
        else f"It says {next(iter(missing.values()))}.",
        place="",
    )


_BADGES = {
    "present": "aligned",
    "small": "small effect",
    "below_chance": "below chance",
    "explained_by_outlier_channels": "outlier channels",
    "explained_by_common_mean": "common mean",
    "undetermined": "undetermined",
    "absent": "null level",
}
# The kinds of findings that have a card, in the order of the cards.
_CARDS: dict[str, Callable[[Finding], Card]] = {
    "comparable_weights": _comparable_weights,
    "continuity": _continuity,
    "stacked_continuity": _continuity,
    "redundant_heads": _redundant_heads,
    "heads_feeding": _heads_feeding,
    "composed_weights": _composed_weights,
    "strongest_overlap": _strongest_overlap,
    "similar_layers": _similar_layers,
}


def _by_role(roles: Sequence[Row], name: str) -> str:
    return _parts(f"{row['role']} {row[name]:.2f}" for row in roles)


def _parts(texts: Iterable[str]) -> str:
    return " · ".join(texts)
