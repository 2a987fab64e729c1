"""Places where a command can neither read nor write: one line each, and nothing is left there."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from flaggeo.cli import app
from flaggeo.cli.terminal import FAILED, UNREADABLE, USAGE
from flaggeo.results.lock import alone_in
from tests.builders import related_llama, save_folder

run = CliRunner().invoke
QUICK = ["--rank", "2", "--roles", "q", "--measure", "continuity", "--quiet"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_folder(tmp_path_factory.mktemp("models") / "model", related_llama()))


@contextmanager
def mounted(folder, options):
    """A file system of its own at a folder, which only root may have."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def said_in_one_line(result, code, words):
    assert (result.exit_code, result.stdout) == (code, "")
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_full_disk_is_named_and_what_was_there_stays(model, tmp_path):
    with mounted(tmp_path / "disk", "size=1m") as disk:
        result = run(app, ["analyze", model, "-o", str(disk / "out"), *QUICK])
        said_in_one_line(result, FAILED, f"{disk / 'out'}: expected room on its disk")
        assert "out" not in names(disk)
        assert not [name for name in names(disk) if name.startswith(".")]


@pytest.mark.parametrize("command", [["report"], ["figure", "continuity"]])
def test_a_disk_without_room_for_a_page_or_a_figure_is_named(model, tmp_path, command):
    saved = tmp_path / "saved"
    assert run(app, ["analyze", model, "-o", str(saved), *QUICK]).exit_code == 0
    with mounted(tmp_path / "disk", "size=1m") as disk:
        (disk / "out").mkdir()
        for file in saved.iterdir():
            if file.name != "report.html":
                (disk / "out" / file.name).write_bytes(file.read_bytes())
        free = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes((free.f_bavail - 1) * free.f_bsize))
        before = names(disk), names(disk / "out")
        name, *chart = command
        options = ["-o", str(disk / "x.svg")] if chart else []
        result = run(app, [name, str(disk / "out"), *chart, *options])
        said_in_one_line(result, FAILED, f"{disk}")
        assert "expected room on its disk" in result.stderr
        assert (names(disk), names(disk / "out")) == before


def test_a_place_that_can_only_be_read_is_refused_before_the_work(model, tmp_path):
    with mounted(tmp_path / "disk", "ro") as disk:
        result = run(app, ["analyze", model, "-o", str(disk / "out"), *QUICK])
        said_in_one_line(result, USAGE, f"{disk / 'out'}: expected a place to write to")


def test_a_second_run_for_one_folder_is_refused_and_changes_nothing(model, tmp_path):
    out = tmp_path / "out"
    assert run(app, ["analyze", model, "-o", str(out), *QUICK]).exit_code == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with alone_in(out):
        result = run(app, ["analyze", model, "-o", str(out), *QUICK, "--overwrite"])
    said_in_one_line(result, FAILED, f"{out}: expected no other run")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("command", ["inspect", "analyze", "compare", "trace", "report"])
def test_a_pipe_in_place_of_what_is_read_is_refused(model, tmp_path, command):
    pipe = tmp_path / "model.safetensors"
    os.mkfifo(pipe)
    sources = [model, str(pipe)] if command in ("compare", "trace") else [str(pipe)]
    said_in_one_line(run(app, [command, *sources]), UNREADABLE, "model.safetensors")
    assert names(tmp_path) == ["model.safetensors"]


def test_an_output_where_no_folder_can_be_is_refused_before_the_work(model, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "file/out", "link", "pipe", "x" * 300):
        result = run(app, ["analyze", model, "-o", str(tmp_path / name), *QUICK, "--overwrite"])
        said_in_one_line(result, USAGE, str(tmp_path / name))
    assert names(tmp_path) == ["file", "link", "pipe"]


def test_a_link_to_a_folder_is_written_through(model, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert run(app, ["analyze", model, "-o", str(tmp_path / "link"), *QUICK]).exit_code == 0
    assert "report.html" in names(tmp_path / "real")
    assert (tmp_path / "link").is_symlink()
