import json
import subprocess
import sys
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from flaggeo import Analysis
from flaggeo.cli import app
from flaggeo.cli.analyze import _verdicts
from flaggeo.cli.terminal import FAILED, INCOMPLETE, UNREADABLE, USAGE, chosen_device
from flaggeo.findings import Card, cards, graph_findings
from tests.builders import CONFIG, save_folder, tiny_llama

run = CliRunner().invoke


@pytest.fixture
def model(tmp_path):
    return save_folder(tmp_path / "model", tiny_llama())


def test_analyze_writes_the_page_and_the_tables_and_says_where(model, tmp_path):
    result = run(app, ["analyze", str(model), "-o", str(tmp_path / "out"), "--rank", "4"])
    assert result.exit_code == 0, result.stderr
    assert str(tmp_path / "out" / "report.html") in result.stdout
    assert "gate" in result.stdout
    assert "0 of 2" in result.stdout  # steps beyond chance, of weights that are unrelated
    assert {file.name for file in (tmp_path / "out").iterdir()} == Analysis.file_names()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_the_path_alone_analyses_and_its_output_is_short(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(app, [str(model), "--rank", "4"])
    assert result.exit_code == 0, result.stderr
    assert str(Path("model-alignment") / "report.html") in result.stdout
    assert len(result.stdout.splitlines()) < 25
    assert "\x1b" not in result.stdout
    assert run(app, ["nowhere.gguf"]).exit_code == UNREADABLE
    unknown = run(app, ["analyse"])
    assert (unknown.exit_code, "No such command" in unknown.stderr) == (USAGE, True)


def test_a_verdict_has_a_colour_where_a_person_sees_it():
    card = Card("present", "aligned", "Title", "0.5", "unrelated 0.1", "", "graph")
    shown = [Console(force_terminal=terminal, width=80, file=StringIO()) for terminal in (True, False)]
    for console in shown:
        console.print(_verdicts([card]))
    assert ["\x1b[32m" in console.file.getvalue() for console in shown] == [True, False]


def answered(model, folder, measure):
    """The analysis, and what the terminal says of it, without its line breaks."""
    result = run(app, ["analyze", str(model), "-o", str(folder), "--rank", "4", "--measure", measure])
    return Analysis.load(folder), " ".join(result.stdout.split())


def test_what_has_no_card_is_answered_in_a_sentence(model, tmp_path):
    """The model's weights are unrelated, so that there is nothing to make a card of."""
    analysis, shown = answered(model, tmp_path / "out", "heads")
    [answer] = [str(finding) for finding in analysis.findings if finding.kind == "similar_heads"]
    assert answer in shown


@pytest.mark.parametrize("verdict", ["absent", "small"])
def test_whether_layers_are_alike_has_a_line(tmp_path, verdict):
    tensors = tiny_llama(layers=4)
    if verdict == "small":  # the queries of two neighbours alone: one role of seven
        tensors["model.layers.2.self_attn.q_proj.weight"] = tensors["model.layers.1.self_attn.q_proj.weight"].clone()
    model = save_folder(tmp_path / "model", tensors, config=CONFIG | {"num_hidden_layers": 4})
    analysis, shown = answered(model, tmp_path / "out", "structure")
    [card] = cards(graph_findings(analysis.structure), {})
    assert card.verdict == verdict
    assert f"{card.badge} {card.title}: {card.told} ({card.baseline})" in shown
    assert card.number.startswith("1 and 2") == (verdict == "small")


def test_every_phase_is_named_while_it_lasts(model, tmp_path, monkeypatch):
    told = []

    @contextmanager
    def bar(*_):
        yield lambda *step: told.append(step)

    monkeypatch.setattr("flaggeo.cli.run.progress_bar", bar)
    arguments = ["analyze", str(model), "-o", str(tmp_path / "out"), "--rank", "4", "--draws", "1"]
    assert run(app, [*arguments, "--measure", "continuity,heads,stability"]).exit_code == 0
    phases = [name.partition(":")[0] for name, *_ in told]
    assert list(dict.fromkeys(phases)) == ["layers", "baselines", "pairs", "stability", "heads", "page"]
    assert [done for *_, done, total in told if total > 1] == list(range(told[0][2]))


def test_auto_is_an_accelerator_that_has_float64_or_the_cpu(model, tmp_path, monkeypatch):
    for kind, expected in (("cuda", "cuda"), ("mps", "cpu")):
        monkeypatch.setattr("torch.accelerator.current_accelerator", lambda kind=kind, **_: torch.device(kind))
        assert chosen_device("auto") == expected
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: None)
    command = ["analyze", str(model), "-o", str(tmp_path / "out"), "--roles", "q", "--device", "auto"]
    assert run(app, [*command, "-q"]).exit_code == 0
    assert Analysis.load(tmp_path / "out").provenance["device"] == "cpu"


def test_what_another_command_takes_is_named_with_it(tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    for path in (adapter, adapter / "adapter_model.safetensors"):
        refused = run(app, ["analyze", str(path)])
        assert (refused.exit_code, f"flaggeo compare BASE {adapter}" in refused.stderr) == (UNREADABLE, True)
    for step in (10, 20):
        save_folder(tmp_path / "run" / f"checkpoint-{step}", tiny_llama())
    refused = run(app, [str(tmp_path / "run")])
    assert (refused.exit_code, f"flaggeo trace {tmp_path / 'run'}" in refused.stderr) == (UNREADABLE, True)
    assert refused.stderr.count("\n") == 1


def test_json_goes_to_standard_output_alone(model, tmp_path):
    result = run(
        app, ["analyze", str(model), "-o", str(tmp_path / "out"), "-k", "4", "--format", "json", "--measure", "all"]
    )
    record = json.loads(result.stdout)
    assert record["output"] == str(tmp_path / "out")
    assert {row["role"] for row in record["summary"]} == {"q", "k", "v", "o", "gate", "up", "down"}
    assert record["findings"]


def test_draws_put_the_nulls_into_every_output(model, tmp_path):
    command = ["analyze", str(model), "-o", str(tmp_path / "out"), "--roles", "q,k", "--draws", "2", "--seed", "5"]
    assert "norm-matched" in run(app, [*command, "-v"]).stdout
    record = json.loads(run(app, [*command, "--overwrite", "--format", "json"]).stdout)
    assert [record["provenance"]["settings"][name] for name in ("draws", "seed")] == [2, 5]
    assert all(isinstance(row["abs_cos_1_excess"], float) for row in record["summary"])
    plain = run(app, ["analyze", str(model), "-o", str(tmp_path / "plain"), "--roles", "q,k", "-v"])
    assert "norm-matched" in plain.stdout
    assert "equalised" not in plain.stdout


def test_quiet_prints_nothing(model, tmp_path):
    result = run(
        app, ["analyze", str(model), "-o", str(tmp_path / "out"), "-q", "--roles", "q, k", "--layers", "0-1,2"]
    )
    assert (result.exit_code, result.output) == (0, "")


def test_verbose_says_more(model, tmp_path):
    result = run(app, ["analyze", str(model), "-o", str(tmp_path / "out"), "-v"])
    assert "largest residual of a singular triplet" in result.stdout
    assert "not used: model.norm.weight" in result.stdout


def damage_missing(model):
    return model / "nowhere"


def damage_no_weights(model):
    (model / "model.safetensors").unlink()
    return model


def damage_truncated(model):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    return model


def damage_shard(model):
    save_folder(model, tiny_llama(), shards=2)
    (model / "model-00002-of-00002.safetensors").unlink()
    return model


def damage_quantised(model):
    tensors = tiny_llama()
    tensors["model.layers.0.mlp.up_proj.weight"] = tensors["model.layers.0.mlp.up_proj.weight"].to(torch.float8_e4m3fn)
    return save_folder(model, tensors)


def damage_nan(model):
    tensors = tiny_llama()
    tensors["model.layers.2.mlp.up_proj.weight"][0, 0] = float("nan")
    return save_folder(model, tensors)


def damage_unknown(model):
    return save_folder(model, {"a.weight": torch.ones(2, 2)}, config={"model_type": "mystery"})


def damage_width(model):
    return save_folder(model, tiny_llama() | {"model.layers.1.mlp.up_proj.weight": torch.ones(40, 25)})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_missing, ["nowhere", "expected", "found nothing"]),
        (damage_no_weights, ["model", "expected weights", "found only config.json"]),
        (damage_truncated, ["model.safetensors", "expected a complete safetensors file", "found"]),
        (damage_shard, ["model-00002-of-00002.safetensors", "expected a shard", "found no such file"]),
        (
            damage_quantised,
            ["model.safetensors", "layers.0.mlp.up_proj", "in F8_E4M3: expected its scales", "found neither"],
        ),
        (damage_unknown, ["expected tensor names of a known architecture", "model type 'mystery'"]),
        (damage_width, ["model.safetensors", "layers.1.mlp.up_proj", "expected a stream width of 24", "found 25"]),
    ],
)
def test_bad_checkpoints_give_one_line_and_leave_nothing_behind(model, tmp_path, damage, words):
    path = damage(model)
    result = run(app, ["analyze", str(path), "-o", str(tmp_path / "out")])
    assert result.exit_code == UNREADABLE
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("flaggeo: ")
    for word in words:
        assert word in result.stderr
    assert not [entry for entry in tmp_path.iterdir() if entry.name != "model"]


def test_a_tensor_that_is_not_finite_is_left_out_with_an_exit_code_of_its_own(model, tmp_path):
    path = damage_nan(model)
    result = run(app, ["analyze", str(path), "-o", str(tmp_path / "out"), "--format", "json"])
    assert result.exit_code == INCOMPLETE
    for word in ["model.safetensors", "layers.2.mlp.up_proj", "expected finite numbers", "found 1 NaN"]:
        assert word in result.stderr
    assert len(json.loads(result.stdout)["provenance"]["failed"]) == 1
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rank", "0"], "rank: expected a whole number of at least 1; got 0"),
        (["--rank", "many"], "--rank"),
        (["--draws", "-1"], "draws: expected a whole number of at least 0; got -1"),
        (["--roles", "rooter"], "roles: expected some of embed, q"),
        (["--layers", "3-1"], "layers: expected numbers and ranges"),
        (["--layers", "first"], "'first'"),
        (["--layers", "7"], "layers: expected layers from 0 to 2; got 7"),
        (
            ["--measure", "beauty"],
            "measure: expected some of continuity, pairs, heads, interfaces, spectra, structure, stability; got beauty",
        ),
        (["--layers", "0-999999999999"], "layers: expected a whole number from 0 to 9999; got 10000"),
        (["--device", "abacus"], "--device: expected a device"),
        (["--device", "meta"], "--device: expected a device"),
        (["--format", "poem"], "poem"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_wrong_command_lines_exit_with_2(model, tmp_path, options, words):
    result = run(app, ["analyze", str(model), "-o", str(tmp_path / "out"), *options])
    assert result.exit_code == USAGE
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_left_alone_unless_told(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    for options in ([], ["--overwrite"]):
        result = run(app, ["analyze", str(model), "-o", str(tmp_path / "out"), *options])
        assert result.exit_code == USAGE
        assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"
    again = ["analyze", str(model), "-o", str(tmp_path / "again"), "--roles", "q"]
    assert [run(app, again).exit_code, run(app, [*again, "--overwrite"]).exit_code] == [0, 0]


def test_a_failed_analysis_exits_with_1_and_keeps_the_earlier_result(model, tmp_path, monkeypatch):
    command = ["analyze", str(model), "-o", str(tmp_path / "out"), "--roles", "q"]
    run(app, command)
    before = (tmp_path / "out" / "result.json").read_text()

    def fail(*_, **__):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("flaggeo.analysis.pair_table", fail)
    result = run(app, [*command, "--overwrite"])
    assert result.exit_code == FAILED
    assert result.stderr == "flaggeo: out of memory\n"
    assert (tmp_path / "out" / "result.json").read_text() == before
    assert "Traceback" in run(app, [*command, "--overwrite", "-v"]).stderr


def test_an_interrupted_run_says_that_it_can_continue(model, tmp_path, monkeypatch):
    from flaggeo import engine

    original, calls = engine.leading_spectrum, []
    second_layer = tiny_llama()["model.layers.1.self_attn.q_proj.weight"]

    def interrupt(matrix, rank, **options):
        calls.append(matrix)
        if interrupted and torch.equal(matrix, second_layer):
            raise KeyboardInterrupt
        return original(matrix, rank, **options)

    interrupted = True
    monkeypatch.setattr(engine, "leading_spectrum", interrupt)
    result = run(app, ["analyze", str(model), "-o", str(tmp_path / "out")])
    assert result.exit_code == 130
    assert "continues where this one stopped" in result.stderr
    assert not (tmp_path / "out").exists()
    interrupted = False
    calls.clear()
    assert run(app, ["analyze", str(model), "-o", str(tmp_path / "out")]).exit_code == 0
    assert len(calls) == 23 - 1 - 7  # all but the embedding and the seven weights of the first layer
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out"]


def test_no_warning_of_python_reaches_the_terminal(tmp_path):
    """Weights that are zero, constant, or as large as is allowed divide by nothing, and by everything."""
    tensors = tiny_llama()
    for layer, value in enumerate((0.0, 1.0, 1e15)):
        for role in ("self_attn.q_proj", "mlp.down_proj"):
            tensors[f"model.layers.{layer}.{role}.weight"].fill_(value)
    folder = save_folder(tmp_path / "model", tensors)
    command = [sys.executable, "-m", "flaggeo", "analyze", str(folder), "-o", str(tmp_path / "out"), "--measure", "all"]
    done = subprocess.run([*command, "--draws", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
