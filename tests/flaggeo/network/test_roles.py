"""The records of the roles: consistent with each other, and the only place that lists roles."""

import ast
from pathlib import Path

import pytest

import flaggeo
from flaggeo.network import CHANGES_OF_BASIS, ROLE_RECORDS, ROLES, BlockKind, Side, SpaceKind, Symmetry
from flaggeo.network.roles import (
    COMPOSED,
    HEAD_PAIRS,
    HEAD_PARTNERS,
    PASSES,
    TABLES,
    bare,
    head_pair,
    head_pair_name,
    roles_in,
    tower_of,
)

PACKAGE = Path(flaggeo.__file__).parent
FAMILIES = PACKAGE / "network" / "families"
LISTED_BY = {PACKAGE / "network" / "roles.py", FAMILIES / "gguf_names.py", FAMILIES / "inference.py"}
# What is derived is told in roles. Networks that are trained here have weights of their own, and claims are on these.
OWN_NAMES = [FAMILIES / "derivation", PACKAGE / "training", PACKAGE / "claims"]
KNOWN = {*ROLES, *(head_pair_name(*pair) for pair in HEAD_PAIRS), *("-".join(pair) for pair in COMPOSED)}


def lists_roles(node: ast.AST) -> bool:
    """Whether a literal is a list, or a mapping, of two or more roles or pairs of roles."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and len(node.value) > 1 and set(node.value) <= {"q", "k", "v", "o"}
    items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
    names = [item.value for item in items if isinstance(item, ast.Constant)]
    return len(names) == len(items) > 1 and set(names) <= KNOWN


@pytest.mark.parametrize(
    "file",
    sorted(set(PACKAGE.rglob("*.py")) - LISTED_BY - {file for folder in OWN_NAMES for file in folder.rglob("*.py")}),
    ids=lambda file: file.stem,
)
def test_no_other_file_lists_roles(file):
    found = [node.lineno for node in ast.walk(ast.parse(file.read_text())) if lists_roles(node)]
    assert not found, f"{file}: lines {found} list roles; look them up in flaggeo.network.roles"


def test_partners_meet_in_a_space_of_one_kind_and_of_one_block():
    for first, second in COMPOSED:
        one, other = ROLE_RECORDS[first], ROLE_RECORDS[second]
        assert (one.inner, one.block, one.side) == (other.inner, other.block, Side.READ)
        assert (other.side is Side.WRITE) == (second in one.read_by) == (other.stage > one.stage)


def test_what_the_rest_of_the_package_needs_follows_from_the_records():
    usual = ("embed", "q", "k", "v", "o", "gate", "up", "down", "unembed")
    assert [role for role in ROLES if role in usual] == list(usual)
    assert TABLES == ("embed", "unembed")
    assert PASSES["v"] == ("o",)
    assert PASSES["gate"] == PASSES["up"] == ("down",)
    assert PASSES["cross_v"] == ("cross_o",)
    assert PASSES["expert_up"] == ("expert_down",)
    assert {"q", "k"}.isdisjoint(PASSES)
    assert [HEAD_PARTNERS[role] for role in "qkvo"] == ["k", "q", "o", "v"]
    names = [head_pair_name(*pair) for pair in HEAD_PAIRS]
    assert [name for name in names if len(name) == 2] == ["QQ", "KK", "VV", "OO", "OQ", "OK", "OV"]
    assert [head_pair(name) for name in names] == list(HEAD_PAIRS)
    assert head_pair("encoder.OQ") == ("encoder.o", "encoder.q")
    assert head_pair_name("encoder.o", "encoder.q") == "encoder.OQ"
    assert roles_in(BlockKind.MLP) == ("gate", "up", "down", "down_gate")
    assert [ROLE_RECORDS[role].concatenation for role in "qkvo"] == ["queries", "keys", "values", "mixed values"]
    assert {role.name for role in ROLE_RECORDS.values() if role.inner is SpaceKind.VOCABULARY} == set(TABLES)
    assert [bare(role) for role in ("q", "encoder.q", "stages.2.conv_in:conv1")] == ["q", "q", "conv_in"]
    assert [tower_of(role) for role in ("q", "encoder.q", "stages.2.conv_in:conv1")] == ["", "encoder", "stages.2"]


def test_every_symmetry_has_a_short_value_and_words_of_its_own():
    assert list(CHANGES_OF_BASIS) == [symmetry.value for symmetry in Symmetry]
    assert len(set(CHANGES_OF_BASIS.values())) == len(Symmetry)
