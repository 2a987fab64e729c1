"""`flaggeo reproduce`: what it prints and writes, and how it ends."""

import json

import pytest
from typer.testing import CliRunner

from flaggeo import claims
from flaggeo.cli import app
from flaggeo.cli.terminal import INTERRUPTED, UNREADABLE, USAGE


def run(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


def test_one_claim_with_its_cases(tmp_path):
    result = run("invariant_dimension", "-o", tmp_path / "out", "--jobs", 1)
    assert result.exit_code == 0
    row, _ = [line for line in result.stdout.splitlines() if line.strip().startswith("invariant_dimension")]
    assert "false as worded" in row
    assert "2 of 3" in row
    assert len([line for line in result.stdout.splitlines() if "general linear map" in line]) == 2
    written = ["experiments", "figures", "reproduction.html", "reproduction.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == written
    assert [path.name for path in (tmp_path / "out" / "figures").iterdir()] == ["invariant_dimension.svg"]
    assert "false as worded" in (tmp_path / "out" / "reproduction.html").read_text(encoding="utf-8")
    assert run("invariant_dimension", "-o", tmp_path / "out", "--jobs", 1).exit_code == 0


def test_a_claim_that_is_not_tested(tmp_path):
    result = run("continuity_by_design", "-o", tmp_path / "out", "--jobs", 1)
    assert result.exit_code == 0
    assert "not tested" in result.stdout
    assert "It is a proposal" in result.stdout


def test_json(tmp_path):
    result = run("invariant_dimension", "-o", tmp_path / "out", "--jobs", 1, "--format", "json", "--quiet")
    record = json.loads(result.stdout)
    assert record == json.loads((tmp_path / "out" / "reproduction.json").read_text())
    (claim,) = record["claims"]
    assert (claim["claim"], claim["verdict"]) == ("invariant_dimension", "false as worded")
    assert record["experiments"]["general-map"]["image_rows_change"] == [-2.0] * 5


@pytest.mark.slow
def test_two_processes_end_in_the_same_numbers(tmp_path):
    for jobs in (1, 2):
        assert run("invariant_dimension", "-o", tmp_path / str(jobs), "--jobs", jobs, "--quiet").exit_code == 0
    first, second = ((tmp_path / jobs / "reproduction.json").read_text() for jobs in "12")
    assert first == second


def test_all_is_every_claim(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(claims, "reproduce", lambda _, names, **__: asked.append(names) or 1 / 0)
    for arguments in ((), ("all",)):
        assert run(*arguments, "-o", tmp_path / "out", "--jobs", 1).exit_code == 1
    assert asked == [None, None]


@pytest.mark.parametrize(
    "arguments", [("nothing",), ("all", "invariant_dimension"), ("--device", "nowhere"), ("--size", "huge")]
)
def test_a_wrong_command_line(tmp_path, arguments):
    assert run(*arguments, "-o", tmp_path / "out").exit_code == USAGE
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_those_of_mnist(tmp_path):
    arguments = ("mnist_table_1", "-o", tmp_path / "out", "--data", tmp_path)
    missing = run(*arguments)
    assert missing.exit_code == UNREADABLE
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"<html>")
    other = run(*arguments)
    assert other.exit_code == USAGE
    for result in (missing, other):
        assert "train-images-idx3-ubyte" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    result = run("invariant_dimension", "-o", tmp_path)
    assert result.exit_code == USAGE
    assert "thesis.tex" in result.stderr
    (tmp_path / "file").write_text("")
    assert run("invariant_dimension", "-o", tmp_path / "file").exit_code == USAGE


def test_an_interrupt_ends_with_its_code(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(claims, "reproduce", interrupted)
    result = run("-o", tmp_path / "out", "--jobs", 1)
    assert result.exit_code == INTERRUPTED
    assert "the same command continues" in result.stderr
