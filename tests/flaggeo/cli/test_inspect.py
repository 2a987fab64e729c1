import json
import subprocess
import sys

import gguf
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import flaggeo
from flaggeo import analyze, compare, load, trace
from flaggeo.checkpoint import safetensors_files
from flaggeo.cli import app
from flaggeo.cli.terminal import UNREADABLE
from flaggeo.network.families.record import Naming, Piece, Record, Tower
from tests.builders import CONFIG, WIDTH, save_folder, tiny_llama
from tests.flaggeo.checkpoint.builders import write_sparse

run = CliRunner().invoke


def test_inspect_lists_roles_spaces_and_what_is_not_used(tmp_path):
    model = save_folder(tmp_path / "model", tiny_llama())
    result = run(app, ["inspect", str(model)])
    assert result.exit_code == 0
    for words in ("3 layers, read as llama", "layers.*.hidden", "20x24", "model.layers.*.input_layernorm.weight"):
        assert words in result.stdout
    record = json.loads(run(app, ["inspect", str(model), "--format", "json"]).stdout)
    assert len(record["weights"]) == 2 + 3 * (7 + 12)
    assert {item["tensor"] for item in record["skipped"]} >= {"model.norm.weight"}


def test_layers_and_spaces_are_told_by_stage(tmp_path, monkeypatch):
    """Two stages of unlike width, whose spaces differ in the number of the stage alone."""
    layer = "stages.{stage}.layers.{layer}"
    pieces = tuple(Piece(f"{layer}.{role}.weight", role, "stages.{stage}") for role in ("up", "down"))
    record = Record(("staged",), (Tower("stages.{stage}"),), Naming(pieces))
    monkeypatch.setattr("flaggeo.network.families.lookup.load_records", lambda: (record,))
    tensors = {
        piece.tensor.format(stage=stage, layer=number): torch.ones(4 + stage, 4 + stage)
        for stage, depth in enumerate((2, 3))
        for number in range(depth)
        for piece in pieces
    }
    model = str(save_folder(tmp_path, tensors, config={"model_type": "staged"}))
    found = json.loads(run(app, ["inspect", model, "--format", "json"]).stdout)
    assert found["layers"] == {"stages.0": 2, "stages.1": 3}
    shown = run(app, ["inspect", model]).stdout
    assert "5 layers" in shown.splitlines()[0]
    spaces = [line.split()[:2] for line in shown.partition("\nspaces\n")[2].splitlines()[1:5]]
    assert spaces == [
        *(["stages.0.layers.*.hidden", "4"], ["stages.0.stream", "4"]),
        *(["stages.1.layers.*.hidden", "5"], ["stages.1.stream", "5"]),
    ]


def test_packing_is_said_and_scales_are_no_tensors_of_their_own(tmp_path):
    tensors = tiny_llama()
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    tensors[f"{name}_scale"] = torch.ones(())
    folder = save_folder(tmp_path, tensors)
    assert "packed weights: 1 in F8_E4M3 with one scale each" in run(app, ["inspect", str(folder)]).stdout
    record = json.loads(run(app, ["inspect", str(folder), "--format", "json"]).stdout)
    assert record["metadata"]["packed weights"] == "1 in F8_E4M3 with one scale each"
    assert {weight["dtype"] for weight in record["weights"] if weight["tensor"] == name} == {"F8_E4M3"}
    assert not any("scale" in item["tensor"] for item in record["skipped"])


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


def sharded_llama(folder, *, shards, hidden):
    """A layer a shard, each of the size that this hidden width makes it; nothing but headers is on the disk."""
    weight_map = {}
    for layer in range(shards):
        shapes = {f"model.layers.{layer}.self_attn.{role}_proj.weight": [WIDTH, WIDTH] for role in "qkvo"}
        shapes |= {f"model.layers.{layer}.mlp.{role}_proj.weight": [hidden, WIDTH] for role in ("gate", "up")}
        shapes |= {f"model.layers.{layer}.mlp.down_proj.weight": [WIDTH, hidden]}
        file = f"model-{layer + 1:05d}-of-{shards:05d}.safetensors"
        write_sparse(folder / file, shapes)
        weight_map |= dict.fromkeys(shapes, file)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_attention_heads": 4}))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder / "model.safetensors.index.json"


def gguf_llama(file):
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_head_count(4)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones((WIDTH, WIDTH), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


HEAVY = {"torch", "pandas", "scipy", "matplotlib", "networkx", "sklearn", "geomstats", "pyarrow", "transformers"}
INSPECT = f"""
import sys
from flaggeo.cli import app
try:
    app(["inspect", sys.argv[1]])
finally:
    print(*{HEAVY} & set(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("kind", ["safetensors", "gguf", "index"])
def test_nothing_heavy_is_imported_to_inspect(tmp_path, kind):
    match kind:
        case "safetensors":
            path = save_folder(tmp_path / "m", tiny_llama()) / "model.safetensors"
        case "gguf":
            path = gguf_llama(tmp_path / "m.gguf")
        case _:
            path = sharded_llama(tmp_path, shards=3, hidden=40)
    done = subprocess.run([sys.executable, "-c", INSPECT, path], capture_output=True, text=True, check=True)
    assert ", read as llama" in done.stdout
    assert [name for line in done.stderr.splitlines() for name in line.split() if name in HEAVY] == []


def test_each_of_a_hundred_shards_is_opened_once_and_no_number_is_read(tmp_path, monkeypatch):
    """Together the shards have 400 GB, of which the disk holds the headers: whoever read the numbers would be late."""
    index = sharded_llama(tmp_path, shards=100, hidden=16_000_000)
    opened = []
    safe_open = safetensors_files.safe_open
    monkeypatch.setattr(
        safetensors_files,
        "safe_open",
        lambda file, framework: opened.append((file, framework)) or safe_open(file, framework=framework),
    )
    record = json.loads(run(app, ["inspect", str(index), "--format", "json"]).stdout)
    assert opened == [(tmp_path / f"model-{number:05d}-of-00100.safetensors", "np") for number in range(1, 101)]
    assert sum(weight["head"] is None for weight in record["weights"]) == 700
    assert {tuple(weight["shape"]) for weight in record["weights"] if weight["role"] == "up"} == {(16_000_000, WIDTH)}
    assert sum(file.stat().st_size for file in tmp_path.glob("*.safetensors")) > 400e9
    assert sum(file.stat().st_blocks * 512 for file in tmp_path.glob("*.safetensors")) < 2e6


@pytest.mark.parametrize("command", ["inspect", "analyze"])
def test_heads_can_be_counted_where_the_settings_do_not(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = save_folder(tmp_path / "m", tiny_llama(), config={"model_type": "llama"})
    without = run(app, ["inspect", str(model), "--format", "json"])
    assert {weight["head"] for weight in json.loads(without.stdout)["weights"]} == {None}
    options = ["--format", "json"] if command == "inspect" else ["--measure", "all", "--format", "json", "-k", "2"]
    found = run(app, [command, str(model), "--heads-per-layer", "4", *options])
    assert found.exit_code == 0
    if command == "inspect":
        heads = {weight["head"] for weight in json.loads(found.stdout)["weights"] if weight["role"] == "q"}
        assert heads == {None, 0, 1, 2, 3}
    else:
        assert flaggeo.Analysis.load(next(tmp_path.glob("m-alignment"))).attention_heads == 12
