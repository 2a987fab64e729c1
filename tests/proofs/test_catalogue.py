import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import proofs
from proofs import Outcome
from proofs.catalogue import TOPICS, topic_statements
from proofs.proof import Proof, parameters

STATEMENTS = proofs.statements()
IDENTITIES = [f"S{number}" for number in range(1, 23)]
IDENTITIES += ["S1b", "S1c", "S2b", "S2c", "S5b", "S6b", "S7b", "S8b", "S11b", "S15b"]
THEOREMS = ["theorem 1", "theorem 1'", "theorem 2", "theorem 3", "theorem 3a", "theorem 3b", "theorem 3c", "theorem 3d"]
THEOREMS += ["theorem 4a", "theorem 4b", "theorem 4c"]
WORDINGS = [f"D{number}" for number in range(1, 13)]
MUST_BE_DIMENSION_FREE = ["balance_law", "gate_law", "noether_ridge", "projector_commutator", "orbit_transformation"]
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
    [pytest.param(s, m, id=f"{s.name}: {m}") for s in STATEMENTS for m in s.mutants],
)
essential = pytest.mark.parametrize(
    ("statement", "hypothesis"),
    [pytest.param(s, h, id=f"{s.name} without {h.name}") for s in STATEMENTS for h in s.hypotheses if h.essential],
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


def test_every_identity_and_theorem_has_a_statement():
    sources = [re.split(r"[,;:]? ", statement.source) for statement in STATEMENTS]
    cited = {word.strip(",;:") for words in sources for word in words}
    assert set(IDENTITIES) <= cited
    text = "; ".join(statement.source for statement in STATEMENTS) + ";"
    for theorem in THEOREMS:
        assert re.search(rf"{re.escape(theorem)}[,;:(]", text), theorem


def test_every_doubtful_wording_has_a_note():
    noted = {statement.wording.point for statement in STATEMENTS if statement.wording}
    assert set(WORDINGS) <= noted


@pytest.mark.parametrize("name", MUST_BE_DIMENSION_FREE)
def test_central_law_is_proved_dimension_free(name):
    findings = proofs.check(name).findings
    assert any(f.proof.given.kind == "dimension-free" and f.goals is Outcome.HOLDS for f in findings)


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
