import pytest
from typer.testing import CliRunner

from flaggeo import analyze, compare, load, render_comparison, render_report, render_trace, trace
from flaggeo.cli import app
from flaggeo.cli.terminal import FAILED, UNREADABLE
from tests.builders import CONFIG, related_llama, tiny_llama

run = CliRunner().invoke


@pytest.fixture(scope="module")
def analysis():
    return analyze(load(related_llama(), config=CONFIG), rank=2)


@pytest.fixture
def saved(analysis, tmp_path):
    analysis.save(tmp_path / "saved")
    (tmp_path / "saved" / "report.html").write_text("outdated")
    return tmp_path / "saved"


def test_the_page_is_that_of_the_fresh_analysis(analysis, saved):
    before = {file.name: file.read_bytes() for file in saved.iterdir() if file.name != "report.html"}
    result = run(app, ["report", str(saved)])
    assert (result.exit_code, result.stdout) == (0, f"{saved / 'report.html'}\n")
    assert (saved / "report.html").read_text() == render_report(analysis)
    assert {file.name: file.read_bytes() for file in saved.iterdir() if file.name != "report.html"} == before
    quiet = run(app, ["report", str(saved), "--quiet"])
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_comparisons_and_traces_have_pages_too(tmp_path):
    versions = [tiny_llama(), tiny_llama(seed=1)]
    compared, traced = compare(*versions, rank=2, roles=["q"]), trace(versions, rank=2, roles=["q"])
    compared.save(tmp_path / "compared")
    traced.save(tmp_path / "traced")
    assert run(app, ["report", str(tmp_path / "compared")]).exit_code == 0
    assert (tmp_path / "compared" / "comparison.html").read_text() == render_comparison(compared)
    assert run(app, ["report", str(tmp_path / "traced")]).exit_code == 0
    assert (tmp_path / "traced" / "trace.html").read_text() == render_trace(traced)


def test_a_failure_leaves_the_earlier_page(saved, monkeypatch):
    def fail(_):
        raise RuntimeError("no")

    monkeypatch.setattr("flaggeo.page.render_report", fail)
    assert run(app, ["report", str(saved)]).exit_code == FAILED
    assert (saved / "report.html").read_text() == "outdated"
    assert not [file for file in saved.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize("command", [["report"], ["figure", "graph", "-o", "x.svg"]])
def test_a_folder_without_a_readable_result_exits_with_3(saved, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, *rest = command
    result = run(app, [name, str(tmp_path / "nowhere"), *rest])
    assert (result.exit_code, "expected a" in result.stderr) == (UNREADABLE, True)
    (saved / "weights.parquet").write_bytes(b"PAR1 or not")
    result = run(app, [name, str(saved), *rest])
    assert (result.exit_code, "cannot read what is saved here" in result.stderr) == (UNREADABLE, True)
    (saved / "weights.parquet").unlink()
    result = run(app, [name, str(saved), *rest])
    assert (result.exit_code, "found the file weights.parquet missing" in result.stderr) == (UNREADABLE, True)
    assert not (tmp_path / "x.svg").exists()
