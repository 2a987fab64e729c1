"""Names from a checkpoint never send a command to a terminal or a spreadsheet."""

import csv

import pytest
import torch
from typer.testing import CliRunner

from flaggeo.cli import app
from tests.builders import save_folder, tiny_llama

run = CliRunner().invoke
# Clears the screen, sets the title of the window, turns the direction of writing, fakes a line, begins a formula.
HOSTILE = ("x\x1b[2J", "x\x1b]0;title\x07", "x\u202egnp", "x\nflaggeo: done", '=HYPERLINK("x")')
FORBIDDEN = ("\x1b", "\x07", "\u202e", "\nflaggeo: done", "\n=HYPER")


@pytest.fixture
def folder(tmp_path):
    names = {f"{name}.weight": torch.randn(4, 4) for name in HOSTILE}
    return save_folder(tmp_path / "model", tiny_llama() | names)


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "-v"], ["inspect", "--format", "json"]])
def test_inspect_spells_them_out(folder, command):
    result = run(app, [command[0], str(folder), *command[1:]])
    assert result.exit_code == 0
    assert "\\x1b[2J" in result.output or "\\u001b[2J" in result.output
    assert not any(text in result.output for text in FORBIDDEN[:4])


def test_a_run_spells_them_out_on_the_terminal_and_in_its_tables(folder, tmp_path):
    result = run(app, ["analyze", str(folder), "-o", str(tmp_path / "out"), "-k", "4", "-v"])
    assert result.exit_code == 0
    assert "\\x1b[2J" in result.output
    assert not any(text in result.output for text in FORBIDDEN)
    tables = [file.read_bytes().decode() for file in (tmp_path / "out").glob("*.csv")]
    assert not any(text in table for table in tables for text in ("\x1b", "\x07", "\u202e", "\nflaggeo: done"))
    with (tmp_path / "out" / "skipped.csv").open(newline="") as file:
        cells = [row["tensor"] for row in csv.DictReader(file)]
    assert '\'=HYPERLINK("x").weight' in cells
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_errors_spell_them_out(tmp_path):
    folder = save_folder(tmp_path / "model", tiny_llama() | {"x\x1b[2J.weight": torch.full((4, 4), torch.nan)})
    (folder / "config.json").rename(folder / "moved")
    (folder / "config.json").write_text("[")
    odd = folder.rename(tmp_path / "m\x1b[2J")
    result = run(app, ["inspect", str(odd)])
    assert result.exit_code == 3
    assert "\x1b" not in result.output
    assert "\\x1b[2J" in result.output
