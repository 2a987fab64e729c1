"""The records are complete: what they name exists, and no threshold was chosen on their seeds."""

import re

import pytest

import proofs
from flaggeo.claims import Size, claims, experiments_of
from flaggeo.claims.catalogue import every_claim

CLAIMS = every_claim()
EXPERIMENTS = experiments_of(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_every_record_can_be_judged(claim):
    assert any(case.stated for case in claim.cases) or claim.untested
    for case in claim.cases:
        assert all(case.number in experiment.numbers for experiment in case.experiments)
        assert -float("inf") < case.least or case.most < float("inf")
        assert case.least <= case.most
        seeds = [set(experiment.seeds) for experiment in case.experiments]
        assert set.intersection(*seeds) in seeds  # a difference is over the seeds of both
    assert claim.proof is None or claim.proof in {statement.name for statement in proofs.statements()}
    assert re.match(r"arXiv:\d{4}\.\d{5}|docs/proofs.md|our own hypothesis: docs/claims.md", claim.source)


def test_names_are_those_of_one_claim_and_of_one_experiment():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    assert len({experiment.setting for experiment in EXPERIMENTS}) == len(EXPERIMENTS)
    assert len({repr(experiment.settings) for experiment in EXPERIMENTS}) == len(EXPERIMENTS)
    assert all(re.fullmatch(r"[\w.-]+", experiment.name) for experiment in EXPERIMENTS)
    for claim in CLAIMS:
        for case in claim.cases:
            assert all(one in EXPERIMENTS for one in case.experiments)


def test_no_threshold_was_chosen_on_the_seeds():
    chosen_on = {*range(100), 123, 777, *range(301, 304)}
    assert not {seed for experiment in EXPERIMENTS for seed in experiment.seeds} & chosen_on


def test_the_grid_of_causes_is_whole():
    cells = {
        (one.residual, one.activation, one.norm)
        for one in EXPERIMENTS
        if "prototypes" in one.name and one == one.at(Size.LAPTOP)
    }
    norms = (None, "rmsnorm", "rmsnorm-no-gain", "layernorm", "layernorm-no-affine")
    for residual in (True, False):
        for activation in ("relu", "linear", "radial"):
            assert {(residual, activation, norm) for norm in norms} <= cells


def test_the_size_of_the_paper():
    cell = next(one for one in EXPERIMENTS if one.name == "prototypes-residual-relu").at(Size.PAPER)
    assert (cell.width, cell.depth, cell.batch, cell.steps, cell.rate) == (256, 16, 128, 9375, 1e-3)
    assert cell.settings != cell.at(Size.LAPTOP).settings or cell.at(Size.LAPTOP) is cell


def test_claims_are_chosen_by_name_and_keep_their_order():
    first, second = CLAIMS[1].name, CLAIMS[4].name
    assert [claim.name for claim in claims([second, first])] == [first, second]
    with pytest.raises(ValueError, match="'nothing': expected a claim, one of invariant_dimension"):
        claims([first, "nothing"])


def test_claims_apart_are_tested_by_name_alone():
    apart = [claim for claim in CLAIMS if claim.apart]
    assert apart
    assert not set(apart) & set(claims())
    assert claims([apart[0].name]) == (apart[0],)
