"""The smallest versions that pyproject.toml admits are enough for every command."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.builders import related_llama, save_folder

ROOT = Path(__file__).parents[1]
FLAGGEO = "from flaggeo.cli import main; main()"
COMMANDS = (
    "--help",
    "inspect a",
    "analyze a -o analysis --measure all --draws 2 --rank 3",
    "analyze a -o in-processes --rank 3 --jobs 2",
    "compare a b -o comparison",
    "trace a b -o trace",
    "report analysis",
    "verify analysis",
    "figure analysis continuity -o continuity.svg",
    "prove",
)


def smallest():
    """Every dependency, those of the extras too, at its declared minimum."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [one for name, some in project["optional-dependencies"].items() if name != "dev" for one in some]
    return [one.replace(">=", "==") for one in (*project["dependencies"], *extras)]


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="versions so old have wheels for Python 3.11 alone")
def test_every_command_works_with_the_smallest_versions_that_are_declared(tmp_path):
    """It fetches some gigabytes, since torch of that version has its GPU libraries with it."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile"]
    subprocess.run([*install, "--only-binary", ":all:", *smallest()], check=True)
    subprocess.run([*install, "--no-deps", ROOT], check=True)

    save_folder(tmp_path / "a", related_llama())
    save_folder(tmp_path / "b", related_llama(seed=1))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in COMMANDS:
        done = subprocess.run(
            [python, "-c", FLAGGEO, *command.split()], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        # Progress may be told there, and nothing else.
        assert (command, done.returncode) == (command, 0), done.stderr
        assert not any(word in done.stderr for word in ("Warning", "Traceback", "flaggeo:")), done.stderr
