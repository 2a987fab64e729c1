import json

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from flaggeo.cli import app
from flaggeo.cli.terminal import FAILED, UNREADABLE
from tests.builders import save_folder, tiny_llama

run = CliRunner().invoke


@pytest.fixture
def saved(tmp_path):
    model = save_folder(tmp_path / "model", tiny_llama())
    options = ["--rank", "3", "--roles", "q,o", "--draws", "1", "--seed", "4", "-q"]
    assert run(app, ["analyze", str(model), "-o", str(tmp_path / "saved"), *options]).exit_code == 0
    return tmp_path / "saved"


def test_an_analysis_is_measured_again_and_is_the_same(saved):
    result = run(app, ["verify", str(saved)])
    assert result.exit_code == 0, result.stderr
    assert "continuity_nulls" in result.stdout
    assert "other values" not in result.stdout
    assert run(app, ["verify", str(saved), "--quiet"]).output == ""


def test_a_number_that_was_altered_is_found(saved):
    pairs = pd.read_parquet(saved / "pairs.parquet")
    pairs.loc[3, "overlap"] += 0.01
    pairs.to_parquet(saved / "pairs.parquet")
    result = run(app, ["verify", str(saved)])
    assert result.exit_code == FAILED
    assert [line.split()[0] for line in result.stdout.splitlines() if "other values in overlap" in line] == ["pairs"]


def test_copies_for_people_that_are_not_as_their_tables_are_found(saved):
    (saved / "weights.csv").unlink()
    with (saved / "pairs.csv").open("a") as file:
        file.write("a row more\n")
    result = run(app, ["verify", str(saved)])
    assert result.exit_code == FAILED
    differing = [line.split()[0] for line in result.stdout.splitlines()[1:] if "the same" not in line]
    assert differing == ["weights.csv", "pairs.csv"]


def test_a_checkpoint_that_has_moved_is_named(saved, tmp_path):
    (tmp_path / "model").rename(tmp_path / "moved")
    assert run(app, ["verify", str(saved), "-q"]).exit_code == UNREADABLE
    assert run(app, ["verify", str(saved), "-q", "--checkpoint", str(tmp_path / "moved")]).exit_code == 0


def test_another_checkpoint_is_refused(saved, tmp_path):
    other = save_folder(tmp_path / "other", tiny_llama() | {"other.weight": torch.ones(2)})
    result = run(app, ["verify", str(saved), "-q", "--checkpoint", str(other)])
    assert (result.exit_code, "expected the checkpoint that it is of" in result.stderr) == (UNREADABLE, True)
    assert json.loads((saved / "result.json").read_text())["provenance"]["checkpoint"].endswith("model")
