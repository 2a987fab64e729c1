import json

import pytest
import torch
from typer.testing import CliRunner

from flaggeo import analyze, compare, load, trace
from flaggeo.cli import app
from flaggeo.cli.terminal import UNREADABLE
from tests.builders import CONFIG, save_folder, tiny_llama

run = CliRunner().invoke


def test_inspect_lists_roles_spaces_and_what_is_not_used(tmp_path):
    model = save_folder(tmp_path / "model", tiny_llama())
    result = run(app, ["inspect", str(model)])
    assert result.exit_code == 0
    for words in ("3 layers of the llama family", "layers.*.hidden", "20x24", "model.layers.*.input_layernorm.weight"):
        assert words in result.stdout
    record = json.loads(run(app, ["inspect", str(model), "--format", "json"]).stdout)
    assert len(record["weights"]) == 2 + 3 * (7 + 12)
    assert {item["tensor"] for item in record["skipped"]} >= {"model.norm.weight"}


def test_names_from_the_checkpoint_are_never_markup(tmp_path):
    folder = save_folder(tmp_path / "m", tiny_llama() | {"[red]x[/nonsense]": torch.ones(1)}, config=CONFIG)
    result = run(app, ["inspect", str(folder), "-v"])
    assert result.exit_code == 0
    assert "[red]x[/nonsense]" in result.stdout


@pytest.mark.parametrize("command", ["inspect", "analyze"])
def test_a_saved_result_is_no_checkpoint(tmp_path, command):
    model = tiny_llama()
    saved = analyze(load(model), rank=2, roles=["q"])
    for name, result in (
        ("an analysis", saved),
        ("a comparison", compare(saved, saved)),
        ("a trace", trace([saved] * 2)),
    ):
        result.save(tmp_path / name)
        failed = run(app, [command, str(tmp_path / name)])
        assert (failed.exit_code, f"found {name} saved by flaggeo" in failed.stderr) == (UNREADABLE, True)
    both = save_folder(tmp_path / "both", model)
    (both / "result.json").write_text("{}")
    assert run(app, ["inspect", str(both)]).exit_code == 0
