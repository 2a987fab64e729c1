import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sympy import MatrixSymbol

import proofs
from proofs import Evidence, Outcome
from proofs.catalogue import TOPICS, topic_statements
from proofs.given import DimensionFree
from proofs.goal import Relation, equal
from proofs.proof import Proof, parameters
from proofs.statement import statement
from tests.conftest import sampled

STATEMENTS = proofs.statements()
DOCS = Path(__file__).parents[2] / "docs"
WORDINGS = [f"D{number}" for number in range(1, 13)]
PROVED_FOR_ALL_DIMENSIONS = [
    "balance_law",
    "gate_law",
    "noether_ridge",
    "projector_commutator",
    "orbit_transformation",
    "intersection_dimension",
    "kempf_ness_minimum",
    "kempf_ness_gap",
    "closed_orbit",
    "deep_chain_minimum",
    "isospectral_flag",
    "complementary_pairs_semistable",
    "angle_bound",
    "haar_second_moments",
    "haar_overlap_moments",
    "haar_abs_cosine_moments",
    "flag_exponential",
    "flag_inner_product",
    "member_distance",
    "principal_angles_complete",
    "wedin_bound",
    "angle_decay",
]
WEAKER = {
    "commutator_bound": Evidence.GENERIC_SYMBOLS,
    "closure_order": Evidence.EVERY_CASE,
    "pairs_of_subspaces": Evidence.INSTANCES,
    "orbit_codimension": Evidence.INSTANCES,
    "pairs_of_flags": Evidence.INSTANCES,
    "position_of_partial_flags": Evidence.INSTANCES,
    "levels_imply": Evidence.INSTANCES,
    "random_polystability_defect": Evidence.INSTANCES,
    "chain_multiplicities": Evidence.CITED,
    "free_nuclear_norm": Evidence.CITED,
    "flag_dimension": Evidence.EVERY_CASE,
    "flag_curvature_bounds": Evidence.GENERIC_SYMBOLS,
    "flag_geodesic_equation": Evidence.CITED,
    "flag_sectional_curvature": Evidence.CITED,
    "flag_injectivity_radius": Evidence.CITED,
    "interface_invariants": Evidence.CITED,
}
# Goals on numbers that sympy evaluates to the same form on both sides: each can fail, as its mutants or symbols show.
EVALUATED = {
    ("chain_multiplicities", "intervals through vertex 1"),
    ("chain_multiplicities", "intervals through vertex 2"),
    ("chain_multiplicities", "intervals through vertex 3"),
    ("closure_order", "l(t) = u s u"),
    ("closed_orbit", "dim V₄ = r₂ - r₁₂"),
    ("relu_symmetry", "ReLU(-e) - (-e) = e"),
    ("relu_symmetry", "ReLU(c - e) - c = -e for c ≥ e"),
    ("relu_symmetry", "ReLU(e - c) - e = -e for c ≥ e"),
    ("relu_symmetry", "ReLU(c x) = c ReLU(x), sign 1"),
    ("tanh_symmetry", "tanh: c^2 e = 0"),
    ("smooth_gate_symmetry", "GELU: c^1 e = 0"),
    ("smooth_gate_symmetry", "SiLU: c^1 e = 0"),
    ("sigma2_weighted_invariance", "share of the energy E = Σ s_j²"),
    ("free_nuclear_norm", "second moment of the product"),
    ("free_nuclear_norm", "(2/π) ∫ x / (x + s²) ds = √x"),
    ("angle_decay", "√2 e^(-2 λ t) |Δ₀| / γ = ε"),
}
BACKING_OBSERVABLES = [
    "projection_overlap_invariance",
    "overlap_under_gl",
    "singular_vector_cosine_invariance",
    "haar_overlap_moments",
    "haar_abs_cosine_moments",
    "sigma2_weighted_invariance",
    "intersection_dimension",
    "image_row_intersection",
]

by_name = pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.name)
mutants = pytest.mark.parametrize(
    ("statement", "mutant"),
    sampled([pytest.param(s, m, id=f"{s.name}: {m}") for s in STATEMENTS for m in s.mutants], every=3),
)
essential = pytest.mark.parametrize(
    ("statement", "hypothesis"),
    sampled(
        [pytest.param(s, h, id=f"{s.name} without {h.name}") for s in STATEMENTS for h in s.hypotheses if h.essential],
        every=3,
    ),
)


@pytest.fixture(scope="module", autouse=True)
def arguments_run_once():
    """An argument that a mutant or a dropped hypothesis leaves as it was keeps what it came to."""
    run, findings = Proof.run, {}

    def run_once(proof, **changes):
        accepted = sorted((name, repr(value)) for name, value in changes.items() if name in parameters(proof.argument))
        key = (id(proof), *accepted)
        if key not in findings:
            findings[key] = run(proof, **changes)
        return findings[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Proof, "run", run_once)
        yield


@by_name
def test_verdict_is_the_recorded_one(statement):
    verdict = statement.check()
    assert verdict.outcome is statement.recorded
    assert verdict.evidence is statement.evidence  # as its arguments are run, and as it says
    assert verdict.as_recorded


@mutants
def test_mutant_is_refuted(statement, mutant):
    verdict = statement.check(**statement.mutants[mutant])
    assert not verdict.as_recorded
    assert any(finding.goals is Outcome.REFUTED for finding in verdict.findings)


@essential
def test_dropping_an_essential_hypothesis_flips_the_verdict(statement, hypothesis):
    assert statement.recorded is Outcome.HOLDS
    assert statement.without(hypothesis).outcome is Outcome.REFUTED


@by_name
def test_statement_is_complete(statement):
    assert statement.sentence.endswith(".")
    assert statement.latex
    assert statement.source
    assert statement.mutants


def test_names_are_unique():
    names = [statement.name for statement in STATEMENTS]
    assert len(names) == len(set(names))


def test_every_derivation_of_the_site_has_a_statement():
    """Sections that say what holds, but for those on reading files."""
    cited = set(re.findall(r'docs/([\w/]+\.md), "([^"]+)"', "; ".join(one.source for one in STATEMENTS)))
    for page in ("baselines", "symmetry", "training"):
        name = f"concepts/{page}.md"
        headings = re.findall(r"^## (.*)$", (DOCS / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert {(name, heading) for heading in headings} <= cited


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.name)
def test_no_source_is_one_that_a_reader_lacks(statement):
    """Notes that are not here had sections such as ``alignment 2.1`` and identities such as S4."""
    assert not re.search(r"theory/|notes|(alignment|continuity) \d|\b[SXN]\d", statement.source)


def test_every_doubtful_wording_has_a_note():
    noted = {statement.wording.point for statement in STATEMENTS if statement.wording}
    assert set(WORDINGS) <= noted


@pytest.mark.parametrize("name", PROVED_FOR_ALL_DIMENSIONS)
def test_central_law_is_proved_for_all_dimensions(name):
    verdict = proofs.check(name)
    assert verdict.outcome is Outcome.HOLDS
    assert verdict.evidence is Evidence.ALL_DIMENSIONS


@pytest.mark.parametrize("name", WEAKER)
def test_a_statement_claims_no_more_than_was_checked(name):
    """Seeded pairs, family of examples, finite tables, a lemma from a paper."""
    assert proofs.check(name).evidence is WEAKER[name]


def same_on_both_sides(statement):
    """Dimension-free goals on symbols whose sides are one expression before anything is simplified."""
    for proof in statement.proofs:
        if isinstance(proof.given, DimensionFree):
            for goal in proof.argument(proof.given):
                if goal.relation is Relation.EQUAL and goal.left == goal.right and goal.left.free_symbols:
                    yield goal


@by_name
def test_no_goal_says_the_same_on_both_sides(statement):
    """Nothing of matrices: sympy keeps their products as they are written, but for brackets and inverses.

    Of numbers only what sympy brings to that form itself: sums of other symbols, derivatives, integrals, cases of Max.
    """
    found = list(same_on_both_sides(statement))
    assert not any(goal.left.has(MatrixSymbol) for goal in found), [goal.claim for goal in found]
    assert {goal.claim for goal in found} == {claim for name, claim in EVALUATED if name == statement.name}


def test_a_goal_with_one_expression_on_both_sides_is_found():
    @statement(DimensionFree(), latex="", source="", mutants={})
    def gauge(given):
        """A change of basis cancels, and so does sympy."""
        x, g, y = given.matrix("X", "n", "h"), given.invertible("g", "h"), given.matrix("Y", "n", "h")
        yield equal("X g (Y g⁻ᵀ)ᵀ = X Yᵀ", (x * g) * (y * g.inv().T).T, x * y.T)
        yield equal("(X + X) Yᵀ = 2 X Yᵀ", (x + y) * y.T, x * y.T + y * y.T)

    assert [goal.claim for goal in same_on_both_sides(gauge)] == ["X g (Y g⁻ᵀ)ᵀ = X Yᵀ"]


def test_statements_behind_the_observables_keep_their_names():
    assert set(BACKING_OBSERVABLES) <= {statement.name for statement in STATEMENTS}


@pytest.mark.parametrize("topic", TOPICS)
def test_every_statement_has_a_spot_check(topic):
    """Each statement has a numeric test of its name, in torch, in the test file of its topic."""
    source = Path(__file__).with_name(f"test_{topic}.py").read_text(encoding="utf-8")
    tests = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    assert "import torch" in source or "from tests.proofs.builders import" in source  # whose matrices are torch's
    assert "proofs" not in {name.split(".")[0] for name in re.findall(r"^(?:from|import) (\S+)", source, re.MULTILINE)}
    assert {f"test_{statement.name}" for statement in topic_statements(topic)} <= tests


def test_unknown_name_suggests_near_ones():
    with pytest.raises(ValueError, match=r"'balance_lav'; did you mean balance_law"):
        proofs.check("balance_lav")


def test_proofs_need_sympy_alone():
    """In a fresh interpreter the import is lazy, and a check loads nothing outside sympy, mpmath and lazy_loader."""
    script = """
import sys
before = {name.split(".")[0] for name in sys.modules}
import proofs
assert "sympy" not in sys.modules, "importing proofs loads sympy"
proofs.check("balance_law")
loaded = {name.split(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names)
print(" ".join(sorted(name for name in loaded if not name.startswith("_"))))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) <= {"proofs", "sympy", "mpmath", "lazy_loader", "gmpy2", "flint"}
