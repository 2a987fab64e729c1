import pytest
from typer.testing import CliRunner

from flaggeo import analyze, compare, load
from flaggeo.cli import app
from flaggeo.cli.terminal import UNREADABLE, USAGE
from tests.builders import CONFIG, related_llama, tiny_llama

run = CliRunner().invoke


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("analysis") / "saved"
    analyze(load(related_llama(), config=CONFIG), rank=2).save(folder)
    return folder


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
        (
            ["heads", "-o", "x.svg"],
            "nothing to draw in 'heads': it measured continuity, pairs",
        ),
        (["graph", "-o", "x.svg", "--set", "threshold"], "--set: expected CONTROL=VALUE"),
        (["graph", "-o", "x.svg", "--set", "threshold=9"], "threshold: expected a number"),
        (["graph", "-o", "there.svg"], "found an existing one: choose another, or give --overwrite"),
    ],
)
def test_wrong_command_lines_exit_with_2_and_write_nothing(saved, tmp_path, arguments, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.svg").write_text("mine")
    result = run(app, ["figure", str(saved), *arguments])
    assert result.exit_code == USAGE
    assert words in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["there.svg"]
    assert (tmp_path / "there.svg").read_text() == "mine"


def test_figures_of_a_comparison_are_drawn_from_its_folder(tmp_path):
    options = {"rank": 2, "roles": ["q"], "measure": "continuity"}
    compare(tiny_llama(), tiny_llama(seed=1), **options).save(tmp_path / "moved")
    result = run(app, ["figure", str(tmp_path / "moved"), "tensors", "-o", str(tmp_path / "tensors.svg")])
    assert (result.exit_code, (tmp_path / "tensors.svg").read_text()[:4]) == (0, "<svg"), result.stderr
    result = run(app, ["figure", str(tmp_path / "moved"), "graph", "-o", str(tmp_path / "x.svg")])
    assert (result.exit_code, "a comparison: expected a figure among tensors, drift" in result.stderr) == (USAGE, True)
    result = run(app, ["figure", str(tmp_path), "graph", "-o", str(tmp_path / "x.svg")])
    assert (result.exit_code, (tmp_path / "x.svg").exists()) == (UNREADABLE, False)


def test_an_existing_figure_is_replaced_when_told(saved, tmp_path):
    (tmp_path / "x.svg").write_text("old")
    result = run(app, ["figure", str(saved), "graph", "-o", str(tmp_path / "x.svg"), "--overwrite", "--quiet"])
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
