import json
from dataclasses import fields

import pytest
import typer
from typer.testing import CliRunner

from flaggeo import Settings, analyze, load
from flaggeo.cli import app
from flaggeo.cli.terminal import USAGE
from tests.builders import CONFIG, save_folder, tiny_llama
from tests.flaggeo.test_settings import OTHER

run = CliRunner().invoke
COMMANDS = ("analyze", "compare", "trace")
#: How each option of `OTHER` and each default is written.
OTHER_WRITTEN = {
    "rank": ["-k", "3"],
    "roles": ["--roles", "up, q,down"],
    "layers": ["--layers", "0-1"],
    "fold_norms": ["--fold-norms"],
    "draws": ["--draws", "2"],
    "seed": ["--seed", "5"],
    "measure": ["--measure", "heads,pairs,continuity"],
}
DEFAULT_WRITTEN = {
    "rank": ["--rank", "16"],
    "fold_norms": ["--no-fold-norms"],
    "draws": ["--draws", "0"],
    "seed": ["--seed", "0"],
    "measure": ["--measure", "continuity,pairs"],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_folder(tmp_path_factory.mktemp("model") / "model", tiny_llama()))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An analysis with no option at its default."""
    folder = tmp_path_factory.mktemp("saved") / "saved"
    analyze(load(tiny_llama(), config=CONFIG), **OTHER).save(folder)
    return str(folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_setting_is_an_option_of_every_command_that_measures(name):
    parameters = {parameter.name: parameter for parameter in typer.main.get_command(app).commands[name].params}
    for option in fields(Settings):
        assert parameters[option.name].default is None  # so that what was given is known
        assert parameters[option.name].help == option.metadata["help"]
        assert option.metadata["help"].endswith(".")
        assert f"--{option.name.replace('_', '-')}" in parameters[option.name].opts


@pytest.mark.parametrize("command", ["compare", "trace"])
def test_all_options_of_a_saved_analysis_are_kept_and_those_given_alike_agree(command, model, saved, tmp_path):
    given = [word for words in OTHER_WRITTEN.values() for word in words]
    result = run(app, [command, saved, model, "-o", str(tmp_path / "out"), "--format", "json", *given])
    assert result.exit_code == 0, result.stderr
    assert Settings.from_record(json.loads(result.stdout)["provenance"]["settings"]) == Settings(**OTHER)


@pytest.mark.parametrize("option", DEFAULT_WRITTEN)
@pytest.mark.parametrize("command", ["compare", "trace"])
def test_an_option_that_is_given_counts_even_at_its_default(command, option, model, saved, tmp_path):
    result = run(app, [command, saved, model, "-o", str(tmp_path / "out"), *DEFAULT_WRITTEN[option]])
    assert result.exit_code == USAGE
    assert f"expected an analysis with {option} " in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
