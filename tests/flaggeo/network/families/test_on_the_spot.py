"""Model types that the table lacks: derived from transformers when they are met, or said why not."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import count

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from flaggeo import load
from flaggeo.checkpoint import CheckpointError
from flaggeo.cli import app, terminal
from flaggeo.network import UnknownArchitectureError
from flaggeo.network.families import derivation, derive, lookup, on_the_spot
from flaggeo.network.families.derivation.tiny import tiny_config, tiny_model
from flaggeo.network.families.derivation.variants import switches
from flaggeo.network.families.on_the_spot import Attempt, derive_on_the_spot
from flaggeo.network.families.table import load_records, load_table
from tests.builders import CONFIG, save_folder, tiny_llama

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of its own deprecations

INSTALL = 'pip install "flaggeo[transformers]"'


@pytest.fixture(autouse=True)
def nothing_derived_before(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(on_the_spot, "_derived", cache(on_the_spot._derived.__wrapped__))


@pytest.fixture
def without(monkeypatch):
    """Take a model type out of the table."""

    def remove(model_type):
        kept = tuple(
            replace(record, model_types=others)
            for record in load_records()
            if (others := tuple(name for name in record.model_types if name != model_type))
        )
        monkeypatch.setattr(lookup, "load_records", lambda: kept)

    return remove


def planted(monkeypatch, code):
    """Run other code in the place of the derivation."""
    monkeypatch.setattr(on_the_spot, "_DERIVE", code)


def equal(one, other):
    """Whether two networks have the same weights, heads, layers, spaces and norms."""
    assert [weight.name for weight in one.weights] == [weight.name for weight in other.weights]
    for a, b in zip(one.weights, other.weights, strict=True):
        assert (a.tensor, a.layer, a.head, a.source, a.target) == (b.tensor, b.layer, b.head, b.source, b.target)
        assert torch.equal(one.matrix(a, folded=True), other.matrix(b, folded=True)), a.name
    return True


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("llama", {}),
        *(
            pytest.param(model_type, settings, marks=pytest.mark.slow)
            for model_type, settings in (
                ("gpt2", {}),
                ("t5", {}),
                ("mixtral", {}),
                ("vit", {}),
                ("falcon", {"new_decoder_architecture": True}),
                ("opt", {"do_layer_norm_before": False}),
            )
        ),
    ],
)
def test_a_saved_model_opens_as_with_the_table_from_any_thread(model_type, settings, tmp_path, without):
    tiny_model(tiny_config(model_type, **settings)).save_pretrained(tmp_path)
    expected = load(tmp_path)
    without(model_type)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(load, tmp_path).result()
    assert equal(found, expected)
    assert found.family == model_type
    assert found.structure.known
    assert found.remarks[1:] == expected.remarks
    assert f"transformers {transformers.__version__}" in found.remarks[0]
    started = time.monotonic()
    load(tmp_path)
    assert time.monotonic() - started < 2  # is not derived again


EVIL = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"


def test_a_hostile_config_runs_nothing_and_gives_no_size(tmp_path, without, monkeypatch):
    tiny_model(tiny_config("gpt2")).save_pretrained(tmp_path)
    expected = load(tmp_path)
    for name in ("modeling_evil.py", "transformers.py", "torch.py", "json.py", "flaggeo.py"):
        (tmp_path / name).write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config.json"
    hostile = json.loads(file.read_text()) | {
        "auto_map": {"AutoConfig": "modeling_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"},
        "trust_remote_code": True,
        "_name_or_path": str(tmp_path),
        "architectures": ["modeling_evil.Model"],
        "attn_implementation": "evil/kernel",
        "n_positions": 10**12,
        "n_ctx": 10**12,
    }
    file.write_text(json.dumps(hostile))
    without("gpt2")
    found = load(tmp_path)
    assert equal(found, expected)
    assert found.structure.known
    for size in ("n_layer", "n_embd", "n_inner", "vocab_size"):  # which the weights contradict
        file.write_text(json.dumps(hostile | {size: 10**12}))
        with pytest.raises(CheckpointError, match="1000000000000"):
            load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_switches_of_a_checkpoint_count_and_its_sizes_do_not():
    config = {"do_layer_norm_before": False, "hidden_size": 10**9, "activation_function": "gelu", "use_cache": False}
    config |= {"auto_map": {"AutoConfig": "a.B"}, "trust_remote_code": True, "unknown": True, "_attn": "eager"}
    assert switches("opt", config) == {"do_layer_norm_before": False}
    assert switches("opt", {"do_layer_norm_before": "no", "enable_bias": [False], "dropout": None}) == {}
    assert switches("deepseek_v2", {"q_lora_rank": None, "topk_method": "../elsewhere"}) == {"q_lora_rank": None}
    assert switches("clip", {"vision_config": {"model_type": "evil", "hidden_size": 7}}) == {}


@pytest.mark.parametrize("model_type", ["../../etc", "/tmp", "x" * 10**6, "-c", "llama\n", "a b", '","', "unheard_of"])
def test_a_model_type_that_transformers_lacks_starts_no_process(model_type, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    assert derive_on_the_spot(model_type, {}).records == ()
    network = load(tiny_llama(), config=CONFIG | {"model_type": model_type})
    assert network.family == "llama"
    assert not network.structure.known
    assert len(network.remarks[0]) < 300


def test_what_this_transformers_has_failed_at_is_not_tried_again(monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    model_type = next(iter(load_table().not_derived))
    monkeypatch.setattr(on_the_spot, "version", lambda _: load_table().transformers)
    attempt = derive_on_the_spot(model_type, {})
    assert attempt.records == ()
    assert len(attempt.remark) < 100  # the reason is long, and stands in the documentation


def test_without_transformers_names_decide_and_the_extra_is_named(without, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    without("llama")
    known = load(tiny_llama(), config=CONFIG)
    assert not known.structure.known
    assert INSTALL in known.remarks[0]
    assert {weight.role for weight in known.weights} >= {"q", "k", "v", "o", "gate", "up", "down"}
    foreign = {name.replace("model.layers", "net.blocks").replace("_proj", ""): x for name, x in tiny_llama().items()}
    inferred = load(foreign, config=CONFIG)
    assert inferred.family == "inferred"
    assert INSTALL in inferred.remarks[0]
    with pytest.raises(UnknownArchitectureError) as error:
        load({"a": torch.ones(2, 2)}, config=CONFIG)
    assert INSTALL in str(error.value)
    assert "\n" not in str(error.value)


def test_a_derivation_that_takes_too_long_is_ended_in_any_thread(tmp_path, without, monkeypatch):
    planted(monkeypatch, "import time; time.sleep(100)")
    monkeypatch.setattr(on_the_spot, "LIMIT", 0.5)
    without("llama")
    folder = save_folder(tmp_path, tiny_llama())
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        network = pool.submit(load, folder).result()
    assert time.monotonic() - started < 10
    assert not network.structure.known
    assert "not finished in 0.5 s" in network.remarks[0]


def test_the_reason_of_a_failure_is_said_with_what_was_guessed_instead(without, monkeypatch):
    planted(monkeypatch, "raise RuntimeError('planted')")
    without("llama")
    (remark,) = load(tiny_llama(), config=CONFIG).remarks
    assert "RuntimeError: planted" in remark
    assert "read as" in remark
    with pytest.raises(UnknownArchitectureError, match="RuntimeError: planted"):
        load({"a": torch.ones(2, 2)}, config=CONFIG)


def test_names_that_the_derived_structure_does_not_have(without, monkeypatch):
    gpt2 = tuple(record for record in load_records() if "gpt2" in record.model_types)
    monkeypatch.setattr(on_the_spot, "_derived", lambda *_: Attempt(gpt2, "planted"))
    without("gpt2")
    network = load(tiny_llama(), config=CONFIG | {"model_type": "gpt2"})
    assert (network.family, network.structure.known) == ("llama", False)


@pytest.fixture
def swiglu(tmp_path, monkeypatch):
    """A saved model of a switch that is off by default, its network, and a table without this structure."""
    tiny_model(tiny_config("dinov2", use_swiglu_ffn=True)).save_pretrained(tmp_path)
    expected = load(tmp_path)
    kept = tuple(
        record
        for record in load_records()
        if "dinov2" not in record.model_types or not any(piece.role == "gate" for piece in record.saved.pieces)
    )
    assert len(kept) == len(load_records()) - 1
    monkeypatch.setattr(lookup, "load_records", lambda: kept)
    return tmp_path, expected


def test_a_switch_that_the_table_lacks_is_derived(swiglu):
    folder, expected = swiglu
    found = load(folder)
    assert {"gate", "up", "down"} <= {weight.role for weight in found.weights}
    assert equal(found, expected)
    assert not expected.remarks
    (remark,) = found.remarks
    assert "use_swiglu_ffn = true" in remark
    assert f"transformers {transformers.__version__}" in remark


def test_matrices_that_the_structure_lacks_are_said_where_nothing_can_be_derived(swiglu, monkeypatch):
    folder, expected = swiglu
    planted(monkeypatch, "raise RuntimeError('planted')")
    found = load(folder)
    lost = {weight.tensor for weight in expected.weights} - {weight.tensor for weight in found.weights}
    assert lost == {name for name in found.checkpoint.headers if "mlp.weights" in name and name.endswith("weight")}
    assert all(word in found.remarks[0] for word in (f"{len(lost)} matrices", "use_swiglu_ffn = true", "planted"))
    assert lost <= {item.tensor for item in found.skipped}


def test_a_setting_that_is_not_given_has_its_usual_value(tmp_path):
    tiny_model(tiny_config("cohere")).save_pretrained(tmp_path)
    expected, file = load(tmp_path), tmp_path / "config.json"
    config = json.loads(file.read_text())
    del config["use_qk_norm"]
    file.write_text(json.dumps(config))
    found = load(tmp_path)
    assert found.structure.known
    assert equal(found, expected)
    assert not found.remarks


def test_a_language_model_inside_another_model_is_derived(without, monkeypatch):
    llama = Attempt(tuple(record for record in load_records() if "llama" in record.model_types), "planted")
    planted_for = {"llama": llama, "llava": Attempt((), "not derived")}
    monkeypatch.setattr(on_the_spot, "_derived", lambda model_type, *_: planted_for[model_type])
    without("llama")
    config = {"model_type": "llava", "text_config": CONFIG}
    network = load(tiny_llama(), config=config)
    assert network.structure.known
    assert equal(network, load(tiny_llama(), config=CONFIG))


def test_a_type_takes_bounded_time_and_memory(monkeypatch):
    monkeypatch.setattr(derive, "_LIMIT", 1)
    monkeypatch.setattr(derivation, "derive", lambda *_: all(True for _ in count()))
    assert derive._derived("llama").reason.startswith("TimeoutError")
    monkeypatch.setattr(derivation, "derive", lambda *_: torch.empty(2**34, dtype=torch.uint8))
    assert derive._derived("llama").reason.startswith("RuntimeError")


def test_a_command_says_what_takes_long(tmp_path, without, monkeypatch):
    planted(monkeypatch, "import time; time.sleep(0.5); print('no table')")
    monkeypatch.setattr(terminal, "SILENCE", 0.05)
    without("llama")
    save_file(tiny_llama(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for command in (["inspect"], ["compare", str(tmp_path)], ["trace", str(tmp_path)]):
        on_the_spot._derived.cache_clear()
        options = [] if command == ["inspect"] else ["--rank", "2", "--output", str(tmp_path / command[0])]
        result = CliRunner().invoke(app, [*command, str(tmp_path), *options])
        lines = result.stderr.splitlines()
        assert result.exit_code == 0, result.stderr
        assert sum(line.startswith("deriving the structure of llama") for line in lines) >= 2


INSPECT = """
import sys
from flaggeo.cli import app
from flaggeo.network.families import lookup, on_the_spot
on_the_spot._DERIVE = "raise SystemExit('planted')"
lookup.load_records = lambda: ()
try:
    app(["inspect", sys.argv[1]])
finally:
    print(*{"torch", "transformers"} & set(sys.modules))
"""


def test_neither_torch_nor_transformers_are_imported(tmp_path):
    folder = save_folder(tmp_path, tiny_llama())
    done = subprocess.run([sys.executable, "-c", INSPECT, str(folder)], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == ""
    assert "planted" in done.stderr
