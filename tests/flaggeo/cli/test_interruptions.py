"""Whole processes that end at any moment: what they leave, and what the next one makes of it."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.builders import related_llama, save_folder

ANALYZE = [sys.executable, "-c", "from flaggeo.cli import main; main()", "analyze", "model", "-o", "out", "-q"]
ANALYZE += ["--measure", "all", "--draws", "2", "--rank", "3"]


def files_of(folder):
    """Every file's bytes, without the times at which the run began and ended."""
    provenance = json.loads((folder / "result.json").read_text())["provenance"]
    times = [provenance[name].encode() for name in ("started", "finished")]
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    for name in ("result.json", "report.html"):
        for one in times:
            found[name] = found[name].replace(one, b"")
    return found


@pytest.mark.slow
def test_a_run_that_is_stopped_at_twenty_random_moments_ends_in_the_same_bytes(tmp_path):
    save_folder(tmp_path / "model", related_llama())
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    subprocess.run(ANALYZE, cwd=tmp_path, env=environment, check=True)
    duration = time.monotonic() - start
    expected = files_of(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "expected")

    moments, stopped = random.Random(0), 0
    while stopped < 20:
        process = subprocess.Popen(ANALYZE, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=duration * moments.uniform(0.3, 1))
        except subprocess.TimeoutExpired:
            process.send_signal(moments.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
            stopped += process.wait() != 0
        if (tmp_path / "out").exists():
            assert files_of(tmp_path / "out") == expected
            (tmp_path / "out").rename(tmp_path / f"out {stopped} {time.monotonic()}")

    subprocess.run(ANALYZE, cwd=tmp_path, env=environment, check=True)
    assert files_of(tmp_path / "out") == expected
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
