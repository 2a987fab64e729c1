"""The built wheel holds what the program needs, and runs without the repository."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.builders import save_folder, tiny_llama

ROOT = Path(__file__).parent.parent
DATA_FILES = {
    "flaggeo/page/base.html.j2",
    "flaggeo/page/charts.js",
    "flaggeo/page/comparison.html.j2",
    "flaggeo/page/continuity.vl.json",
    "flaggeo/page/drift.vl.json",
    "flaggeo/page/graph.vg.json",
    "flaggeo/page/report.html.j2",
    "flaggeo/page/style.css",
    *(f"{package}/py.typed" for package in ("flaggeo", "manifolds", "proofs")),
    "flaggeo/__init__.pyi",
    "manifolds/__init__.pyi",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_alone_analyses_a_checkpoint(wheel, tmp_path):
    """Unpacked before the repository on the path: the code and the data files are the wheel's."""
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) >= DATA_FILES
        assert {name.split("/")[0].split("-")[0] for name in archive.namelist()} == {"flaggeo", "manifolds", "proofs"}
        archive.extractall(tmp_path / "site")
    model = save_folder(tmp_path / "model", tiny_llama())
    code = (
        "import sys, flaggeo.cli; print(flaggeo.__file__);"
        f"sys.argv = ['flaggeo', 'analyze', {str(model)!r}, '-q', '-o', 'out']; flaggeo.cli.main()"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert run.stdout.startswith(str(tmp_path / "site"))
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.slow
def test_the_wheel_runs_in_an_empty_environment(wheel, tmp_path, smollm2_file):
    venv.create(tmp_path / "empty", with_pip=True)
    programs = tmp_path / "empty" / "bin"
    install = [programs / "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(install, check=True)
    command = [programs / "flaggeo", "analyze", smollm2_file, "-o", "out", "--format", "json"]
    run = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert '"role": "gate"' in run.stdout
    assert (tmp_path / "out" / "report.html").is_file()
