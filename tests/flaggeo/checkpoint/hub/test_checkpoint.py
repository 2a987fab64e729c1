import json
import pickle
from itertools import pairwise

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import flaggeo
from flaggeo.checkpoint import CheckpointError, HubError, open_checkpoint
from tests.builders import CONFIG, LAYERS, save_folder, tiny_llama
from tests.flaggeo.checkpoint.builders import write_safetensors, write_sparse
from tests.hub_server import COMMIT

A_FEW_KILOBYTES = 2**14


@pytest.fixture
def sharded(hub, tmp_path):
    """A layer a shard, and a shard for the tables."""
    tensors = tiny_llama()
    folder = tmp_path / "sharded"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    weight_map = {}
    for place in [*map(str, range(LAYERS)), "tables"]:
        part = {
            name: tensor
            for name, tensor in tensors.items()
            if (name.split(".")[2] if "layers" in name else "tables") == place
        }
        save_file(part, folder / f"model-{place}.safetensors")
        weight_map |= dict.fromkeys(part, f"model-{place}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    hub.folders["org/sharded"] = folder
    return folder


def names_fetched(hub):
    """Files that came whole, the small ones apart."""
    found = [request.path for request in hub.requests if request.method == "GET" and request.range is None]
    return sorted(path.rsplit("/", 1)[-1] for path in found if path.endswith((".safetensors", ".gguf")))


def test_a_repository_is_what_its_folder_is(hub, sharded):
    remote, local = flaggeo.load("org/sharded"), flaggeo.load(sharded)
    assert names_fetched(hub) == []
    assert [weight.name for weight in remote.weights] == [weight.name for weight in local.weights]
    assert remote.checkpoint.config == local.checkpoint.config
    assert {name: (one.shape, one.dtype) for name, one in remote.checkpoint.headers.items()} == {
        name: (one.shape, one.dtype) for name, one in local.checkpoint.headers.items()
    }
    assert all(torch.equal(remote.matrix(weight), local.matrix(weight)) for weight in remote.weights)
    assert names_fetched(hub) == sorted(file.name for file in sharded.glob("*.safetensors"))
    assert remote.checkpoint.location == "org/sharded"
    assert remote.checkpoint.metadata | {"repository": "org/sharded", "commit": COMMIT} == remote.checkpoint.metadata
    assert remote.checkpoint.headers["lm_head.weight"].file == "org/sharded/model-tables.safetensors"


@pytest.mark.usefixtures("sharded")
def test_only_the_shards_of_the_weights_that_are_measured_are_fetched(hub):
    told = []
    flaggeo.analyze(
        flaggeo.load("org/sharded"), rank=2, layers=[0, 2], roles=["q", "o"], progress=lambda *one: told.append(one)
    )
    assert names_fetched(hub) == ["model-0.safetensors", "model-2.safetensors"]
    assert {name for name, _, _ in told if "fetching" in name} == {
        "fetching model-0.safetensors (MB)",
        "fetching model-2.safetensors (MB)",
    }


def test_headers_of_large_files_take_a_few_kilobytes(hub, tmp_path):
    """Of 40 GB, of which the disk of this machine holds the headers, before as after."""
    shapes = {f"model.layers.0.self_attn.{role}_proj.weight": (50_000, 50_000) for role in "qkvo"}
    write_sparse(tmp_path / "large" / "model.safetensors", shapes)
    hub.folders["org/large"] = tmp_path / "large"
    checkpoint = open_checkpoint("org/large")
    assert {header.shape for header in checkpoint.headers.values()} == {(50_000, 50_000)}
    assert hub.sent() == A_FEW_KILOBYTES
    assert sum(file.stat().st_blocks * 512 for file in tmp_path.rglob("*")) < 1e6


def test_a_header_longer_than_the_first_part_comes_in_further_parts(hub, tmp_path):
    write_sparse(tmp_path / "x" / "model.safetensors", {f"tensor {place}": (1000, 1000) for place in range(2000)})
    hub.folders["org/x"] = tmp_path / "x"
    assert len(open_checkpoint("org/x").headers) == 2000
    with (tmp_path / "x" / "model.safetensors").open("rb") as stream:
        header = 8 + int.from_bytes(stream.read(8), "little")
    assert A_FEW_KILOBYTES < header < hub.sent() < 10 * header
    ranges = [tuple(map(int, request.range[6:].split("-"))) for request in hub.requests if request.range]
    assert all(start == stop + 1 for (_, stop), (start, _) in pairwise(ranges))


def test_a_corrupt_header_is_refused_by_the_name_of_its_file(hub, tmp_path):
    (tmp_path / "x").mkdir()
    write_safetensors(
        tmp_path / "x" / "model.safetensors", {"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 8]}}, size=8
    )
    hub.folders["org/x"] = tmp_path / "x"
    with pytest.raises(
        CheckpointError, match=r"^org/x/model\.safetensors: expected a complete safetensors file, found"
    ):
        open_checkpoint("org/x")


def gguf_file(path, *, words):
    """With a tokenizer of so many words, which stands before the tensors."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_head_count(4)
    writer.add_token_list([f"word {place}" for place in range(words)])
    writer.add_tensor("blk.0.attn_q.weight", np.arange(64 * 64, dtype=np.float32).reshape(64, 64))
    writer.add_tensor("blk.0.ffn_up.weight", np.ones((2000, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("words", [10, 10_000])
def test_gguf(hub, tmp_path, words):
    (tmp_path / "x").mkdir()
    gguf_file(tmp_path / "x" / "m.gguf", words=words)
    hub.folders["org/x"] = tmp_path / "x"
    remote, local = open_checkpoint("org/x"), open_checkpoint(tmp_path / "x")
    assert remote.naming == "gguf"
    assert remote.config == local.config
    assert remote.readable_dtypes == local.readable_dtypes
    assert names_fetched(hub) == []
    assert words > 1000 or hub.sent() == A_FEW_KILOBYTES
    name = "blk.0.attn_q.weight"
    assert torch.equal(remote.read(name, rows=slice(3, 5)), local.read(name)[3:5])


def test_one_file_of_several_is_named(hub, tmp_path):
    for name in ("a", "sub/b"):
        (tmp_path / "x" / name).parent.mkdir(exist_ok=True, parents=True)
        save_file({name: torch.ones(2, 2)}, tmp_path / "x" / f"{name}.safetensors")
    gguf_file(tmp_path / "x" / "c.gguf", words=1)
    hub.folders["org/x"] = tmp_path / "x"
    with pytest.raises(CheckpointError, match=r"org/x: expected one file .* a\.safetensors, c\.gguf: name the one"):
        open_checkpoint("org/x")
    for name in ("a", "sub/b"):
        checkpoint = open_checkpoint(f"org/x/{name}.safetensors@main")
        assert list(checkpoint.headers) == [name]
        assert checkpoint.headers[name].file == f"org/x/{name}.safetensors"
        assert checkpoint.read(name).sum() == 4


@pytest.mark.parametrize(
    ("files", "source", "message"),
    [
        (["pytorch_model.bin"], "org/x", r"a \.safetensors or \.gguf file .* largest are pytorch_model\.bin"),
        ([], "org/x", "its largest are nothing"),
        (["sub/model.safetensors"], "org/x", "a .safetensors or .gguf file"),
        (["a.gguf"], "org/x/b.gguf", r"expected b\.gguf in this repository"),
        (
            ["adapter_config.json", "adapter_model.safetensors"],
            "org/x",
            "those of an adapter: download it with 'hf download",
        ),
    ],
)
def test_a_repository_without_weights(hub, tmp_path, files, source, message):
    (tmp_path / "x" / "sub").mkdir(parents=True)
    for file in files:
        (tmp_path / "x" / file).write_bytes(b"x")
    hub.folders["org/x"] = tmp_path / "x"
    with pytest.raises(HubError, match=message):
        open_checkpoint(source)


def test_an_index_that_names_a_missing_shard(sharded):
    (sharded / "model-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"^org/sharded/model-1\.safetensors: expected a shard that"):
        open_checkpoint("org/sharded")


@pytest.mark.usefixtures("sharded")
def test_shards_on_this_machine_are_not_asked_for_again(hub):
    first = open_checkpoint("org/sharded")
    first.fetch(first.headers)
    hub.requests.clear()
    again = open_checkpoint("org/sharded")
    assert torch.equal(again.read("lm_head.weight"), first.read("lm_head.weight"))
    again.fetch(again.headers)
    assert [request.path for request in hub.requests] == ["/api/models/org/sharded"]


@pytest.mark.usefixtures("sharded")
def test_a_copy_on_this_machine_serves_where_the_hub_does_not_answer(monkeypatch):
    from huggingface_hub import constants

    first = open_checkpoint("org/sharded")
    first.fetch([name for name in first.headers if "layers" in name])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        HubError, match=r"HF_HUB_OFFLINE is set.*; the copy on this machine: .*model-tables.safetensors"
    ):
        open_checkpoint("org/sharded")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    first.fetch(first.headers)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    copy = open_checkpoint("org/sharded")
    assert copy.location == "org/sharded"
    assert all(torch.equal(copy.read(name), first.read(name)) for name in first.headers)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        open_checkpoint("org/sharded@other")


@pytest.mark.usefixtures("sharded")
def test_a_repository_can_go_to_another_process_and_into_a_scratch(hub, tmp_path):
    network = flaggeo.load("org/sharded")
    checkpoint = pickle.loads(pickle.dumps(network.checkpoint))
    assert torch.equal(checkpoint.read("lm_head.weight"), network.checkpoint.read("lm_head.weight"))
    told = []
    options = {"rank": 2, "roles": ["q"], "scratch": tmp_path / "scratch"}
    flaggeo.analyze(network, **options)
    hub.requests.clear()
    again = flaggeo.analyze(flaggeo.load("org/sharded"), progress=lambda *one: told.append(one), **options)
    assert again.provenance["metadata"]["commit"] == COMMIT
    assert names_fetched(hub) == []


def test_weights_in_few_bits_are_fetched_with_their_scales(hub, tmp_path):
    tensors = tiny_llama()
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    hub.folders["org/x"] = save_folder(tmp_path / "x", tensors | {f"{name}_scale": torch.tensor([2.0])})
    checkpoint = open_checkpoint("org/x")
    assert torch.equal(checkpoint.read(name), 2 * tensors[name].float())
    assert checkpoint.stamp() == ["org/x", COMMIT]


def test_a_folder_of_the_same_name_comes_first(hub, tmp_path, monkeypatch):
    save_folder(tmp_path / "org" / "x", tiny_llama())
    monkeypatch.chdir(tmp_path)
    assert open_checkpoint("org/x").metadata == {"format": "safetensors"}
    assert hub.requests == []


@pytest.mark.parametrize("source", ["nowhere", "./org/x", "org/x.safetensors", "a/b/c"])
def test_what_is_no_address_is_a_path(hub, tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"found nothing at this path"):
        open_checkpoint(source)
    assert hub.requests == []
