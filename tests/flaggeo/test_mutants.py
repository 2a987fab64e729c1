"""Damaged and hostile files: each is read, or refused in one line that names it; nothing else ever happens.

Every mutant is made from one seed and tried in a child that is forked from this process, with a limit on its memory and
its time. Where the right answer is known, the child has to give it: one that lies has to be refused, one that says the
same in other words has to give the same numbers. `make test` tries 200 of them, `make slow` 20,000.
"""

import random
import shutil
import sys
from collections import Counter

import pytest
import torch

from tests.mutants.children import READ, REFUSED, attempt
from tests.mutants.damage import damage
from tests.mutants.harmless import HARMLESS
from tests.mutants.hostile import HOSTILE, MARK, cut
from tests.mutants.originals import all_originals

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of children are those of Linux")
# How often each is taken; those that take seconds, less often.
OFTEN = {"result": 1, "scratch": 1}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Each sound folder, and the digest of what is read of it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {}
    for original in all_originals(tmp_path_factory.mktemp("originals")):
        end = attempt(original.read, original.folder)
        assert end.code == READ, end.said
        found[original] = end.said
    yield found
    torch.set_num_threads(threads)


def mutated(original, folder, rng):
    """Change a copy of the original, and give what it is called and its right answer, None where nobody knows it."""
    name, kind = original.name, rng.random()

    def damaged(*_):
        damage(folder / rng.choice(original.files), rng)

    if name == "scratch":  # which is measured anew
        way, right = rng.choice((cut, damaged)), "same"
    elif kind < 0.1:
        way, right = cut, "refused"
    elif kind < 0.25:
        way, right = rng.choice(HOSTILE[name]), "refused"
    elif kind < 0.4:
        way, right = rng.choice(HARMLESS[name]), "same"
    else:
        file = rng.choice(original.files)
        damage(folder / file, rng)
        return f"{name}/{file}", None
    if way is cut:
        cut(folder, rng, original.files)
    else:
        way(folder, rng)
    return f"{name}: {way.__name__}", right


def tried(originals, parent, seed):
    """What came of one mutant: what kind it is, how it ended, and what to say of it."""
    rng = random.Random(seed)
    original = rng.choices([*originals], [OFTEN.get(one.name, 3) for one in originals])[0]
    folder = parent / "mutant"
    shutil.copytree(original.folder, folder)
    name, right = mutated(original, folder, rng)
    end = attempt(original.read, folder)
    has_run = (folder / MARK).exists()
    shutil.rmtree(folder)
    how = {READ: "read", REFUSED: "refused"}.get(end.code, "failed")
    if how == "read" and right == "same":
        how = "same" if end.said == originals[original] else "read with other numbers"
    if has_run or how == "failed" or right not in (None, how):
        how = "failed"
    return original.name, how, f"seed {seed}, {name}: expected {right}, ended with {end.code} {end.said}"


def all_tried(originals, tmp_path, seeds):
    """What failed; how many of each kind ended how is printed as rows of the table in docs/reliability.md."""
    found = [tried(originals, tmp_path, seed) for seed in seeds]
    counts = Counter((kind, how) for kind, how, _ in found)
    ends = ("read", "same", "refused", "failed")
    for kind in dict.fromkeys(original.name for original in originals):
        numbers = " | ".join(str(counts[kind, how]) for how in ends)
        sys.stdout.write(f"| {kind} | {numbers} |\n")
    failed = [label for _, how, label in found if how == "failed"]
    sys.stdout.write("\n".join(failed))
    return failed


def test_sixty_mutants_are_answered_rightly(originals, tmp_path):
    assert not all_tried(originals, tmp_path, range(60))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_twenty_thousand_mutants_are_answered_rightly(originals, tmp_path, block):
    assert not all_tried(originals, tmp_path, range(1000 * (block + 1), 1000 * (block + 2)))
