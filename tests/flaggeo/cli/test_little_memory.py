"""Commands with too little memory for Vega: the numbers are saved, and one line says how to have the page later."""

import os
import subprocess
import sys

import pytest

from flaggeo import Analysis
from flaggeo.cli.terminal import FAILED
from tests.builders import related_llama, save_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of children are those of Linux")
LIMITED = ["sh", "-c", 'ulimit -v 4000000; exec "$@"', "sh"]
COMMAND = [sys.executable, "-c", "from flaggeo.cli import main; main()"]
ANALYZE = ["analyze", "model", "--rank", "2", "--measure", "continuity", "-o", "out", "--quiet", "--format", "json"]


def test_an_analysis_without_room_for_its_page_is_saved_and_report_completes_it(tmp_path):
    save_folder(tmp_path / "model", related_llama())
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    stopped = run(*LIMITED, *COMMAND, *ANALYZE)
    assert (stopped.returncode, stopped.stdout) == (FAILED, "")
    assert stopped.stderr.startswith("flaggeo: out: saved without its page, which flaggeo report out makes: Vega ")
    assert len(stopped.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]
    assert not (tmp_path / "out" / "report.html").exists()

    stopped = run(*LIMITED, *COMMAND, "figure", "out", "continuity", "-o", "x.svg")
    assert (stopped.returncode, stopped.stdout) == (FAILED, "")
    assert [line.startswith("flaggeo: Vega was ended") for line in stopped.stderr.splitlines()] == [True]
    assert not (tmp_path / "x.svg").exists()

    assert run(*COMMAND, "report", "out").returncode == 0
    assert (tmp_path / "out" / "report.html").read_text() == Analysis.load(tmp_path / "out").to_html()
