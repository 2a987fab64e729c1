import pytest
from typer.testing import CliRunner

from flaggeo import analyze, compare, load, render_comparison, render_report, render_trace, trace
from flaggeo.cli.main import app
from flaggeo.cli.terminal import FAILED, UNREADABLE, USAGE
from tests.builders import CONFIG, related_llama, tiny_llama

run = CliRunner().invoke


@pytest.fixture(scope="module")
def analysis():
    return analyze(load(related_llama(), config=CONFIG), rank=2)


@pytest.fixture
def saved(analysis, tmp_path):
    analysis.save(tmp_path / "saved", report="outdated")
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
    assert (result.exit_code, "found no result.json" in result.stderr) == (UNREADABLE, True)
    (saved / "weights.parquet").write_bytes(b"PAR1 or not")
    result = run(app, [name, str(saved), *rest])
    assert (result.exit_code, "cannot read what is saved here" in result.stderr) == (UNREADABLE, True)
    assert not (tmp_path / "x.svg").exists()


def test_a_figure_is_written_in_the_format_of_its_suffix(saved, tmp_path):
    for suffix, magic in (("svg", b"<svg"), ("PNG", b"\x89PNG"), ("pdf", b"%PDF")):
        file = tmp_path / "new" / f"figure.{suffix}"
        result = run(app, ["figure", str(saved), "graph", "-o", str(file), "--set", "threshold=0.1"])
        assert (result.exit_code, result.stdout) == (0, f"{file}\n")
        assert file.read_bytes().startswith(magic)
    assert len(list((tmp_path / "new").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["graph", "-o", "x.gif"], "--output: expected a file that ends in .svg, .png, .pdf; found 'x.gif'"),
        (["poem", "-o", "x.svg"], "continuity, graph, matrix, heads, interfaces, interface-curves; found 'poem'"),
        (["heads", "-o", "x.svg"], "something to draw in 'heads'; found none"),
        (["graph", "-o", "x.svg", "--set", "threshold"], "--set: expected CONTROL=VALUE"),
        (["graph", "-o", "x.svg", "--set", "threshold=9"], "threshold: expected a number"),
        (["graph", "-o", "there.svg"], "found an existing one"),
    ],
)
def test_wrong_command_lines_exit_with_2_and_write_nothing(saved, tmp_path, arguments, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.svg").write_text("mine")
    result = run(app, ["figure", str(saved), *arguments])
    assert result.exit_code == USAGE
    assert words in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["saved", "there.svg"]
    assert (tmp_path / "there.svg").read_text() == "mine"


def test_an_existing_figure_is_replaced_when_told(saved, tmp_path):
    (tmp_path / "x.svg").write_text("old")
    result = run(app, ["figure", str(saved), "graph", "-o", str(tmp_path / "x.svg"), "--overwrite", "--quiet"])
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
