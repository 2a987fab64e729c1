"""One run at a time for each folder, and what killed runs leave."""

import os
import signal
import subprocess
import sys

import pytest

from flaggeo.results.lock import LockedError, alone_in
from flaggeo.results.storage import replaced_at_once

HOLDER = """
import sys, time
from pathlib import Path
from flaggeo.results.lock import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_while_the_first_one_is_at_it(tmp_path):
    with alone_in(tmp_path / "out"):
        with pytest.raises(LockedError, match="expected no other run"), alone_in(tmp_path / "out"):
            pass
        with alone_in(tmp_path / "other"):
            pass
    with alone_in(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_run_is_no_obstacle(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockedError), alone_in(tmp_path / "out"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with alone_in(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["before", "between"])
def test_what_a_run_left_that_was_killed_while_it_saved_is_cleared(tmp_path, monkeypatch, moment):
    """Nothing is lost: the earlier result is there again."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "page").write_text("earlier")
    (tmp_path / ".out.mine").mkdir()
    # As after SIGKILL: no handler runs.
    monkeypatch.setattr("flaggeo.results.storage.shutil.rmtree", lambda *_, **__: None)
    rename = type(out).rename

    def killed(self, target):
        if moment == "between" and self.name.startswith(".out.flaggeo-new-"):
            monkeypatch.setattr(type(out), "rename", lambda *_: None)
            raise Killed
        return rename(self, target)

    def save():
        with replaced_at_once(out) as temporary:
            (temporary / "page").write_text("half")
            if moment == "before":
                raise Killed
            monkeypatch.setattr(type(out), "rename", killed)

    with pytest.raises(Killed):
        save()
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) > 2 - (moment == "between")
    with alone_in(out):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.mine", "out"]
    assert (out / "page").read_text() == "earlier"
