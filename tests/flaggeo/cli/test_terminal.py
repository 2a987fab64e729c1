"""The lines on standard error where no person sees a bar."""

import time

import pytest

from flaggeo.cli import terminal


class Lines(list):
    """Lines that were said, which can be waited for."""

    def until(self, ready):
        deadline = time.monotonic() + 20
        while not ready(self):
            assert time.monotonic() < deadline, f"nothing more came after {self}"
            time.sleep(0.005)


@pytest.fixture
def lines(monkeypatch):
    said = Lines()
    monkeypatch.setattr(terminal, "say", said.append)
    monkeypatch.setattr(terminal, "SILENCE", 0.05)
    return said


def test_each_phase_is_named_as_it_begins(lines):
    """The first once a while has passed, the others without waiting for one."""
    with terminal.progress_bar(quiet=False) as show:
        show("a: layers: up", 0, 3)
        lines.until(lambda said: said[:1] == ["a: layers: 0 of 3"])
        terminal.SILENCE = 60
        show("a: layers: down", 1, 3)
        for step, line in ((("a: pairs", 2, 3), "a: pairs: 2 of 3"), (("page", 0, 1), "page")):
            show(*step)
            lines.until(lambda said, line=line: said[-1] == line)
    assert not [line for line in lines if line.startswith("a: layers: 1")]


def test_a_phase_that_lasts_is_said_again_with_its_time(lines):
    with terminal.progress_bar(quiet=False) as show:
        show("pairs", 1, 3)
        lines.until(lambda said: len(said) == 3)
        show("pairs", 2, 3)
        lines.until(lambda said: said[-1] == "pairs: 2 of 3")
    assert lines[0] == "pairs: 1 of 3"
    assert all(line.startswith("pairs: 1 of 3 (") for line in lines[1:3])


def test_a_run_that_is_over_soon_says_nothing(lines, monkeypatch):
    monkeypatch.setattr(terminal, "SILENCE", 60)
    with terminal.progress_bar(quiet=False, first="reading headers") as show:
        show("layers: up", 0, 2)
        show("page", 0, 1)
    assert lines == []
