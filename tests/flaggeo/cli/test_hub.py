"""The commands with repositories on the Hub in place of paths, and the real client."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flaggeo import Analysis, Trace
from flaggeo.cli import app, terminal
from flaggeo.cli.terminal import UNREADABLE
from tests.builders import save_folder, tiny_llama
from tests.hub_server import commit_of

run = CliRunner().invoke
FEW = ["--rank", "2", "--roles", "q,o"]


@pytest.fixture
def tiny(hub, tmp_path, monkeypatch):
    """``org/tiny-1.5b`` in three shards, and an empty folder to work in."""
    hub.folders["org/tiny-1.5b"] = save_folder(tmp_path / "tiny", tiny_llama(), shards=3)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return hub.folders["org/tiny-1.5b"]


INSPECT = """
import sys
from flaggeo.cli import app
try:
    app(["inspect", "org/tiny-1.5b"])
finally:
    print(*{"torch", "pandas", "scipy"} & set(sys.modules), file=sys.stderr)
"""


@pytest.mark.usefixtures("tiny")
def test_inspect_reads_headers_alone_and_imports_nothing_heavy(hub):
    done = subprocess.run([sys.executable, "-c", INSPECT], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("org/tiny-1.5b: 3 layers, read as llama")
    assert not {"torch", "pandas", "scipy"} & set(done.stderr.split())
    assert [request.range for request in hub.requests if request.path.endswith(".safetensors")] == ["bytes=0-16383"] * 3


@pytest.mark.usefixtures("hub")
def test_analyze_fetches_and_names_its_folder_after_the_repository(tiny):
    result = run(app, ["analyze", "org/tiny-1.5b", *FEW])
    assert result.exit_code == 0, result.stderr
    found, expected = Analysis.load("tiny-1.5b-alignment"), tiny
    assert run(app, ["analyze", str(expected), *FEW, "-o", "local"]).exit_code == 0
    assert found.pairs.equals(Analysis.load("local").pairs)
    assert found.provenance["metadata"]["repository"] == "org/tiny-1.5b"


def test_compare_takes_a_path_and_a_repository(hub, tiny):
    hub.folders["org/tiny-1.5b@later"] = save_folder(tiny.parent / "later", tiny_llama(seed=1))
    result = run(app, ["compare", str(tiny), "org/tiny-1.5b@later", *FEW, "--format", "json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["output"] == "tiny-tiny-1.5b@later-comparison"
    same = run(app, ["compare", str(tiny), "org/tiny-1.5b@main", *FEW, "--format", "json"])
    assert max(row["rms_angle"] for row in json.loads(same.stdout)["ranked"]) < 1e-12


def test_trace_follows_revisions_and_goes_on_where_a_download_stopped(hub, tiny):
    for number in (100, 20):
        folder = save_folder(tiny.parent / f"step{number}", tiny_llama(seed=number))
        hub.folders[f"org/run@step{number}"] = folder
    command = ["trace", "org/run@step100", "org/run@step20", *FEW, "-o", "out"]
    hub.failing.add((commit_of("step100"), "model.safetensors"))
    failed = run(app, command)
    assert failed.exit_code == UNREADABLE
    assert "org/run@step100: expected all of model.safetensors, found that its download stopped (" in failed.stderr
    assert failed.stderr.endswith("run the same command again, files that are complete are kept\n")
    assert len(list(Path("out.partial").iterdir())) == 1
    hub.failing.clear()
    hub.requests.clear()
    result = run(app, command)
    assert result.exit_code == 0, result.stderr
    assert Trace.load("out").checkpoints["step"].tolist() == [20, 100]
    whole = [request.path for request in hub.requests if request.path.endswith("tensors") and request.range is None]
    assert whole == ["/org/run/resolve/step100/model.safetensors"] * 2  # asked for its size, then for itself
    assert not Path("out.partial").exists()


@pytest.mark.usefixtures("tiny")
def test_where_no_person_sees_a_bar_lines_say_what_arrives(hub, monkeypatch):
    monkeypatch.setattr(terminal, "SILENCE", 0.02)
    hub.wait = 0.3
    result = run(app, ["analyze", "org/tiny-1.5b", *FEW])
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    for shard in range(1, 4):
        assert f"fetching model-{shard:05d}-of-00003.safetensors (MB): 0 of 0" in lines
    assert "reading the headers of org/tiny-1.5b" in lines
    compared = run(app, ["compare", "org/tiny-1.5b", "org/tiny-1.5b@main", *FEW])
    said = {line.partition(" (")[0] for line in compared.stderr.splitlines()}  # how long it has taken stands behind
    assert (compared.exit_code, "reading headers" in said) == (0, True)
    quiet = run(app, ["analyze", "org/tiny-1.5b", *FEW, "--overwrite", "--quiet"])
    assert (quiet.exit_code, quiet.stderr) == (0, "")


@pytest.mark.usefixtures("hub", "tiny")
@pytest.mark.parametrize(
    "command", [["inspect"], ["analyze"], ["compare", "org/tiny-1.5b"], ["trace", "org/tiny-1.5b"]]
)
@pytest.mark.parametrize("source", ["org/missing", "org/tiny-1.5b@missing", "missing/model.gguf"])
def test_what_cannot_be_had_is_said_in_one_line(command, source):
    result = run(app, [*command, source])
    assert result.exit_code == UNREADABLE
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"flaggeo: {source}: expected ")
    assert "missing" not in " ".join(path.name for path in Path.cwd().iterdir())


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    result = run(app, ["inspect", "org/name"])
    assert result.exit_code == UNREADABLE
    assert result.stderr.count("\n") == 1
    assert 'pip install "flaggeo[hub]"' in result.stderr
