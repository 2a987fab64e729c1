"""What the packages import is declared, and what is declared is pinned."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("flaggeo", "manifolds", "proofs")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirements):
    return {normalised(re.match(r"[\w.-]+", one)[0]) for one in requirements}


def imported(package):
    """Top-level modules that the files of a package import anywhere."""
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.partition(".")[0]


def test_every_import_is_a_declared_dependency():
    declared = named(PROJECT["dependencies"])
    for extra, requirements in PROJECT["optional-dependencies"].items():
        declared |= named(requirements) if extra != "dev" else set()
    distributions = packages_distributions()
    foreign = {module for package in PACKAGES for module in imported(package)} - sys.stdlib_module_names - {*PACKAGES}
    undeclared = {
        module for module in foreign if not declared & set(map(normalised, distributions.get(module, [module])))
    }
    assert undeclared == set()


def test_every_declared_dependency_is_pinned():
    pinned = named(line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line)
    declared = named(PROJECT["dependencies"]) | {
        name for requirements in PROJECT["optional-dependencies"].values() for name in named(requirements)
    }
    assert declared - pinned == set()
