import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from flaggeo.cli import app
from flaggeo.cli.terminal import EXIT_CODES, UNREADABLE, USAGE
from tests.builders import save_folder, tiny_llama
from tests.flaggeo.checkpoint.test_gguf_file import three_tensors, with_header

run = CliRunner().invoke


def test_installed_command_answers_without_loading_torch():
    code = "import sys, flaggeo.cli; sys.exit('torch' in sys.modules or 'networkx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    shown = subprocess.run([sys.executable, "-m", "flaggeo", "--version"], check=True, capture_output=True, text=True)
    assert shown.stdout.count(".") == 2


@pytest.mark.parametrize("command", [[], *([name] for name in ("inspect", "analyze", "compare", "trace", "prove"))])
def test_the_help_names_every_exit_code(command):
    shown = " ".join(run(app, [*command, "--help"]).stdout.split())
    codes = re.findall(r"(\d+) [a-z]", shown.partition("Exit codes:")[2])
    assert [int(code) for code in codes] == list(EXIT_CODES)


@pytest.mark.parametrize("command", ["inspect", "analyze", "compare", "trace"])
def test_every_command_refuses_a_tensor_at_the_wrong_place_in_one_line(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = with_header(three_tensors(tmp_path / "x.gguf"), "b", offset=2**64 - 96)
    sources = [str(file)] * (2 if command in ("compare", "trace") else 1)
    result = run(app, [command, *sources])
    assert result.exit_code == UNREADABLE
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"flaggeo: {file}: tensor 'b': expected its data at byte 384 behind the header, found byte {2**64 - 96}"
    ]


@pytest.mark.parametrize("command", ["analyze", "compare", "trace"])
def test_a_rank_above_every_width_is_refused_and_one_above_some_is_remarked_upon(command, tmp_path, monkeypatch):
    """The smaller sides are 20 of k and v, and 24 of the others. Equal weights, whose distances take no search."""
    monkeypatch.chdir(tmp_path)
    models = [str(save_folder(tmp_path / name, tiny_llama())) for name in "ab"]
    arguments = [command, *(models[:1] if command == "analyze" else models)]
    refused = run(app, [*arguments, "-k", "25"])
    assert refused.exit_code == USAGE
    assert "rank: expected at most 24" in refused.stderr.splitlines()[-1]
    assert "got 25" in refused.stderr.splitlines()[-1]
    filled = run(app, [*arguments, "-k", "24"])
    assert filled.exit_code == 0
    assert "k (20), v (20), o (24)" in filled.stdout + filled.stderr
    assert "nan" not in filled.stdout.lower()
    narrower = run(app, [*arguments, "-k", "8", "--overwrite"])
    assert narrower.exit_code == 0
    assert "smaller side" not in narrower.stdout + narrower.stderr
