"""The page of the papers' claims point by point, each with the records and statements that answer it."""

from collections.abc import Iterator

import proofs
from flaggeo.claims import Judgement, Reproduction, Verdict
from flaggeo.claims.paraphrases import PARAPHRASES, Paraphrase

from .claims import RESULTS, claim_link
from .markdown import escaped
from .statements import statement_link

HEAD = """\
# The papers, point by point

What arXiv:2605.09861 claims in its abstract and introduction, and arXiv:2605.04971 of the mechanism behind continuity,
numbered and in our own words. Below each point stand the records that answer it, with the verdict that follows from
what was measured, and the statements that prove, bound or refute it, with how they were checked. *Continuity* means
that neighbouring layers share the leading singular directions of a weight.
{counts}. What the verdicts and the other words mean, and all numbers: [](claims.md).

`python -m docs.build` writes this page.
"""


def paper_claims_page() -> str:
    """Every point by paper, as MyST Markdown."""
    of_claim = {judgement.claim.name: judgement for judgement in Reproduction.load(RESULTS).judgements}
    evidence = {statement.name: statement.evidence_in_words for statement in proofs.statements()}
    points = [point for of_paper in PARAPHRASES.values() for point in of_paper]
    untested = sum(all(of_claim[name].verdict is Verdict.UNTESTED for name in point.claims) for point in points)
    parts = [HEAD.replace("{counts}", f"Of {len(points)} points, {untested} have no record that is tested yet")]
    for paper, of_paper in PARAPHRASES.items():
        parts.append(f"## {paper}\n")
        parts.extend("\n".join(_point(point, of_claim, evidence)) for point in of_paper)
    return "\n".join(parts)


def _point(point: Paraphrase, of_claim: dict[str, Judgement], evidence: dict[str, str]) -> Iterator[str]:
    yield f"### {point.number}. {point.section[0].upper()}{point.section[1:]}\n"
    yield f"{escaped(point.sentence)}\n"
    for name in point.claims:
        judgement = of_claim[name]
        reason = f": {escaped(judgement.claim.untested)}" if judgement.verdict is Verdict.UNTESTED else ""
        yield f"- {claim_link(name)}, **{judgement.verdict}**{reason}"
    for name in point.proofs:
        yield f"- {statement_link(name)}, {escaped(evidence[name])}"
    yield ""
