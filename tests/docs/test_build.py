"""The generated pages say what the code does."""

import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

import proofs
from docs.build.__main__ import PAGES
from docs.build.claims import RESULTS, claims_page
from docs.build.markdown import escaped
from docs.build.models import models_page
from docs.build.observables import TABLES, observables_page
from docs.build.statements import proofs_page
from docs.build.tables import tables_page
from flaggeo import Analysis, analyze, load
from flaggeo.alignment import Null, SubspacePair, observables
from flaggeo.alignment.pairs.pair_table import PAIR_OBSERVABLES
from flaggeo.claims import Reproduction
from flaggeo.claims.catalogue import every_claim
from flaggeo.claims.geometry import ON_SOURCE, SMOLLM2
from flaggeo.cli.terminal import EXIT_CODES
from flaggeo.network.families.table import load_table
from flaggeo.training.monitor.records import SCHEMAS
from tests.builders import CONFIG, tiny_llama
from tests.flaggeo.alignment.test_observable import OBSERVABLE

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_up_to_date(name):
    committed = (DOCS / name).read_text(encoding="utf-8")
    assert committed == PAGES[name](), f"docs/{name} is stale: run `python -m docs.build`"


def section(page, heading, end):
    return page.split(heading, 1)[1].split(end)[0]


def test_every_observable_has_its_section_with_everything_that_is_known_of_it():
    page = observables_page()
    assert {observable.table for observable in observables()} == set(TABLES)
    for observable in observables():
        of_table = section(page, f"(`{observable.table}`)", "\n## ")
        text = section(of_table, f"### `{observable.column}`", "\n### ")
        known = [observable.reading, observable.misuse, observable.invariance.text]
        known += [null.text for null in observable.nulls]
        for words in (observable.formula, *map(escaped, known)):
            assert words in text
        assert all(f"`{column.name}`" in text for column in observable.columns)


def test_links_to_statements_show_the_kind_of_evidence():
    evidence = {statement.name.replace("_", "-"): statement.evidence_in_words for statement in proofs.statements()}
    links = re.findall(r"\[([^\]]*)\]\(proofs\.md#statement-([\w-]+)\)", observables_page())
    assert len(links) > 50
    assert {words for words, name in links if words != escaped(evidence[name])} == set()
    assert len({words for words, _ in links}) >= 4


def test_an_observable_of_ones_own_is_in_the_table_the_documents_and_the_page(monkeypatch):
    own = replace(
        OBSERVABLE,
        column="own",
        title="an observable of our own",
        table="pairs",
        pair=SubspacePair,
        measure=lambda pair: pair.squared_cosines.amax(dim=(-2, -1)).clamp(max=1),
        null=Null(text="", law=lambda _: (0.25, 0.1)),
    )
    monkeypatch.setattr("flaggeo.alignment.pairs.pair_table.PAIR_OBSERVABLES", (*PAIR_OBSERVABLES, own))
    analysis = analyze(load(tiny_llama(), config=CONFIG), rank=2)
    assert analysis.pairs["own"].between(0, 1).all()
    assert analysis.pairs["own"].nunique() > 1
    assert "own" in set(analysis.pair_nulls["column"])
    assert "### `own`: an observable of our own" in observables_page()
    assert "| `own` | float64 | an observable of our own, in [0, 1] |" in tables_page()
    assert "<code>own</code><br>an observable of our own" in analysis.to_html()


@pytest.fixture(scope="module")
def tiny():
    return analyze(load(tiny_llama(), config=CONFIG), rank=2)


@pytest.mark.parametrize("name", Analysis.table_names())
def test_every_column_is_documented_and_no_other(tiny, name):
    cells = re.findall(r"^\| (`.*?) \|", section(tables_page(), f"\n## {name}\n", "\n## "), flags=re.MULTILINE)
    documented = [column for cell in cells for column in re.findall(r"`(\w+)`", cell)]
    assert documented == list(getattr(tiny, name).columns)


def test_every_column_of_an_angle_has_its_unit():
    for schema in (*Analysis.schemas().values(), *SCHEMAS.values()):
        for column in schema.columns:
            if "angle" in column.name or column.name == "geodesic_distance":
                assert re.search("degrees|radians", column.meaning + schema.row), column.name


def test_every_exit_code_is_in_the_reference():
    text = section((DOCS / "reference.md").read_text(encoding="utf-8"), "### Exit codes of the commands", "\n### ")
    assert dict(re.findall(r"^\| (\d+) \| (.*) \|$", text, flags=re.MULTILINE)) == {
        str(code): meaning for code, meaning in EXIT_CODES.items()
    }


def test_every_type_that_is_not_supported_stands_beside_one_reason():
    listed = re.findall(r"`([^`]+)`", section(models_page(), "## Not supported", "\n## ").partition("|---|")[2])
    assert sorted(listed) == sorted(load_table().not_derived)


def test_every_statement_is_typeset():
    page = proofs_page()
    for statement in proofs.statements():
        assert f"### `{statement.name}`" in page
        assert statement.latex in page
        assert f"- **{escaped(statement.evidence_in_words)}**; {statement.label}" in page
        assert all(escaped(citation.lemma) in page for citation in statement.cites)


def test_every_wording_is_listed_with_its_statement():
    page = claims_page()
    for statement in proofs.statements():
        if statement.wording:
            text = section(page, f"#### {statement.wording.point}, [`{statement.name}`]", "\n###")
            assert f"**{escaped(statement.evidence_in_words)}**" in text


def test_every_claim_is_listed_with_the_verdict_that_its_numbers_give():
    page, found = claims_page(), Reproduction.load(RESULTS)
    of_claim = {judgement.claim.name: judgement for judgement in found.judgements}
    for number, claim in enumerate(every_claim(), start=1):
        text = section(page, f"### {number}. `{claim.name}`", "\n##")
        if claim not in found.claims:
            assert claim.apart
            assert escaped(claim.sentence) in text
            assert "**no numbers yet**" in text
            continue
        judgement = of_claim[claim.name]
        assert f"**{judgement.verdict}**" in text
        assert escaped(judgement.claim.sentence) in text
        assert text.count("\n| ") == len(judgement.outcomes) + bool(judgement.outcomes)
        assert escaped(judgement.claim.untested) in text
        assert text.count("| **no** |") == len(judgement.against)


def test_the_sections_that_docstrings_cite_exist():
    cited = set()
    for package in ("flaggeo", "manifolds", "proofs"):
        for file in (DOCS.parent / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            for name, heading in re.findall(r'docs/([\w/-]+\.md)(?:,\s+"([^"]+)")?', text):
                cited.add((name, " ".join(heading.split())))
    assert len(cited) > 5
    for name, heading in cited:
        headings = re.findall(r"^#+ (.*)$", (DOCS / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert heading in ("", *headings), f"{name}: {heading}"


def test_the_words_on_geometry_and_function_are_those_of_the_numbers():
    """The page says in words what predicts what, and the README with numbers."""
    numbers = Reproduction.load(RESULTS).measured[SMOLLM2.name]
    for read in ("query", "key", "value"):
        assert min(numbers[f"{read}_links.low"] + numbers[f"{read}_links_within.low"]) > 0
    assert max(numbers["similar_layers_left_out.high"]) < 0
    assert numbers["influence_left_out"][0] > -numbers["similar_layers_left_out"][0]
    for name in ("repeated_heads", "repeated_heads_within", "repeated_heads_matched"):
        assert numbers[f"{name}.low"][0] < 0 < numbers[f"{name}.high"][0]
    again = Reproduction.load(RESULTS).measured[ON_SOURCE.name]
    assert min(again[f"{read}_links_within.low"][0] for read in ("query", "key", "value")) > 0
    assert again["similar_layers_left_out.low"][0] < 0 < again["similar_layers_left_out.high"][0]
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    told = readme[readme.index("**Does geometry predict function?**") :].split("\n\n")[0]
    for name in ("query_links_within", "key_links_within", "value_links_within", "influence_left_out"):
        assert f"{numbers[name][0]:.2f}" in told
    for name in ("similar_layers_left_out", "similar_layers_replaced", "repeated_heads"):
        value, low, high = (f"{numbers[name + end][0]:.2f}" for end in ("", ".low", ".high"))
        assert re.search(rf"\({value}, (95% interval )?{low} to {high}\)", told)


def test_the_page_of_an_analysis_says_what_the_function_test_measured():
    numbers = Reproduction.load(RESULTS).measured[SMOLLM2.name]
    template = files("flaggeo.page").joinpath("report.html.j2").read_text(encoding="utf-8").replace("&minus;", "-")
    told = template[template.index("Candidates from geometry alone") :].split("</p>")[0]
    for name in ("repeated_heads", "similar_layers_left_out", "similar_layers_replaced"):
        value, low, high = (f"{numbers[name + end][0]:+.2f}".replace("0.", ".") for end in ("", ".low", ".high"))
        assert f"{value}, from {low} to {high}" in " ".join(told.split())
    assert f"{numbers['influence_left_out'][0]:+.2f}".replace("0.", ".") in told


def test_the_readme_says_what_the_training_experiments_measured():
    measured = Reproduction.load(RESULTS).measured

    def mean(experiment, number="read"):
        values = measured[experiment][number]
        return f"{sum(values) / len(values):.2f}"

    readme = (Path(__file__).parents[2] / "README.md").read_text()
    told = " ".join(readme[readme.index("`.venv/bin/flaggeo reproduce`") :].split("\n\n")[0].split())
    residual = {name: mean(f"prototypes-residual-{name}") for name in ("relu", "gelu", "silu", "linear")}
    least, most = (function(residual[name] for name in ("relu", "gelu", "silu")) for function in (min, max))
    slow = mean("prototypes-residual-linear-slow")
    assert f"a continuity of {least} to {most} ({residual['linear']} without activation" in told
    assert f"ReLU gives {mean('prototypes-residual-relu-small-updates')} under SGD" in told
    assert f"a linear network {slow} under SGD" in told
    normed = [mean(f"prototypes-residual-{name}-layernorm") for name in ("relu", "linear")]
    assert f"with LayerNorm the two are close ({normed[0]} and {normed[1]})" in told
    rates = [mean(f"decay-{name}", "imbalance_rate") for name in ("relu", "adamw")]
    assert f"at {rates[0]} and {rates[1]} of it" in told
    told = " ".join(readme[readme.index("In a small Llama-style transformer") :].split("\n\n")[0].split())
    roles = ("q", "k", "gate", "up")
    q, k, gate, up = (mean("transformer-silu", f"{role}_read") for role in roles)
    most = max(mean("transformer-plain-silu", f"{role}_read") for role in roles)
    assert f"({q}, {k}, {gate} and {up}; at most {most} without residual connections)" in told
    assert f"so does V ({mean('transformer-silu', 'v_read')})" in told
    gates = [mean(f"transformer-{gate}", "gate_read") for gate in ("linear", "relu")]
    assert f"a linear gate Gate has {gates[0]}, with ReLU {gates[1]}" in told
