"""The notebooks of the site run, and find what they say is there."""

import contextlib
import io
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "notebooks"


def run(name):
    """What a notebook prints, and its names."""
    cells = re.findall(r"```\{code-cell\} python3\n(.*?)```", (NOTEBOOKS / name).read_text(encoding="utf-8"), re.DOTALL)
    assert cells
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in cells:
            exec(compile(cell, name, "exec"), names)
    return printed.getvalue(), names


def test_a_model_in_five_minutes_finds_the_planted_direction():
    _, names = run("five-minutes.md")
    summary = names["analysis"].summary.set_index("role")
    assert summary["abs_cos_1_excess"].idxmax() == "gate"
    kept = [one for one in names["analysis"].findings if (one.kind, one.verdict) == ("continuity", "present")]
    assert [[row["role"] for row in one.numbers["roles"]] for one in kept] == [["gate"]]


def test_a_fine_tune_is_the_change_that_was_made():
    printed, names = run("fine-tune.md")
    assert "rank 2" in printed
    moved = names["comparison"].ranked
    assert set(moved.loc[moved["rms_angle"] > 1e-3, "name"]) == {"layers.2.q"}


def test_flags_keep_their_promises():
    _, names = run("flags.md")
    flags, planes, a, b, turned = (names[name] for name in ("flags", "planes", "a", "b", "turned"))
    assert (flags.dim, planes.dim) == (14, 12)
    assert flags.metric.dist(a, b) > planes.metric.dist(a, b)
    assert flags.metric.dist(names["end"], b) < 1e-6
    assert flags.metric.dist(a, turned) == pytest.approx(1.5707963, abs=1e-6)
    assert planes.metric.dist(a, turned) < 1e-6
