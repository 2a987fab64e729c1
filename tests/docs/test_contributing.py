"""What a contributor is pointed to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:flaggeo|proofs|docs|tests)/[\w/.]*)`", CONTRIBUTING))))
def test_every_file_that_is_named_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+)", CONTRIBUTING, flags=re.MULTILINE))
def test_every_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
