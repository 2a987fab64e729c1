"""What the tests of the commands share."""

import pytest

from flaggeo.cli import terminal


@pytest.fixture(autouse=True)
def no_line_about_waiting(monkeypatch):
    """However long a busy machine takes; the tests of such lines shorten the time."""
    monkeypatch.setattr(terminal, "SILENCE", 60)
