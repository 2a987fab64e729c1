"""One sound folder of every kind that is read, each with what reads it whole."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import gguf
import h5py
import numpy as np
import onnx
import torch
from onnx import numpy_helper

from flaggeo import Analysis, analyze, load
from flaggeo.checkpoint import AdaptedCheckpoint, open_checkpoint
from flaggeo.network import read_network
from tests.builders import save_folder, tiny_llama
from tests.flaggeo.checkpoint.foreign.test_onnx_file import written
from tests.flaggeo.checkpoint.pytorch.test_distributed_folder import in_pieces
from tests.flaggeo.checkpoint.test_adapter import factors_of, save_adapter

#: What interrupted analyses are made with: little, since each mutant of theirs is measured anew.
QUICK = {"rank": 2, "roles": ["q", "o"], "measure": ["continuity", "heads"]}


@dataclass(frozen=True)
class Original:
    """A sound folder, the files in it that are damaged, and what reads it and gives a digest of all its numbers."""

    folder: Path
    files: tuple[str, ...]
    read: Callable[[Path], str]

    @property
    def name(self):
        return self.folder.name


def all_originals(root):
    """One of every kind, below a folder."""
    tensors = tiny_llama()
    base = save_folder(root / "safetensors", tensors)
    index = "model.safetensors.index.json"
    save_folder(root / "sharded", tensors, shards=2)
    module = "model.layers.1.self_attn.q_proj"
    save_adapter(root / "adapter", factors_of(tensors, (module,)), alpha_pattern={"q_proj": 3.0})
    for kind in ("pickle", "npz", "keras", "onnx", "distributed"):
        (root / kind).mkdir()
        (root / kind / "config.json").write_bytes((base / "config.json").read_bytes())
    torch.save(tensors, root / "pickle" / "pytorch_model.bin")
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    np.savez(root / "npz" / "model.npz", **arrays)
    with h5py.File(root / "keras" / "model.h5", "w") as file:
        for name, array in arrays.items():
            file[name.replace(".", "/")] = array
    save_onnx(root / "onnx", arrays)
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 2}
    in_pieces(root / "distributed", matrices, cuts=([4], []))
    (root / "gguf").mkdir()
    save_gguf(root / "gguf" / "model.gguf")
    analyze(load(base), rank=2).save(root / "result")
    analyze(load(base), **QUICK, scratch=root / "scratch")
    opened, network = open_checkpoint(base), load(base)

    def original(name, files, read):
        return Original(root / name, files, read)

    return [
        original("safetensors", ("model.safetensors", "config.json"), digest_of_weights),
        original("sharded", (index, "model-00001-of-00002.safetensors", "config.json"), digest_of_weights),
        original(
            "adapter",
            ("adapter_config.json", "adapter_model.safetensors"),
            lambda folder: digest_of(read_network(AdaptedCheckpoint(opened, folder))),
        ),
        original("pickle", ("pytorch_model.bin", "config.json"), digest_of_weights),
        original("gguf", ("model.gguf",), digest_of_weights),
        original("npz", ("model.npz", "config.json"), digest_of_weights),
        original("keras", ("model.h5", "config.json"), digest_of_weights),
        original("onnx", ("model.onnx", "config.json"), digest_of_weights),
        original("distributed", (".metadata", "__0_0.distcp", "config.json"), digest_of_weights),
        original("result", ("result.json", "weights.parquet", "pairs.parquet", "bases.safetensors"), digest_of_result),
        original(
            "scratch",
            tuple(str(file.relative_to(root / "scratch")) for file in (root / "scratch").rglob("*.kept")),
            lambda folder: digest_of_tables(analyze(network, **QUICK, scratch=folder)),
        ),
    ]


def save_gguf(path, *, settings=(), backwards=False):
    """One layer of a Llama, with further settings at will."""
    shapes = {"attn_q": (8, 32), "attn_k": (8, 32), "attn_v": (8, 32), "attn_output": (32, 8)}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    for setting in settings:
        writer.add_string(setting, "x")
    arrays = {
        f"blk.0.{name}.weight": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        for seed, (name, shape) in enumerate(shapes.items())
    }
    for name in reversed(arrays) if backwards else arrays:
        writer.add_tensor(name, arrays[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def save_onnx(folder, arrays):
    """Initializers in the file, but for every third, whose numbers lie beside it."""
    stored, behind = [], b""
    for number, (name, array) in enumerate(arrays.items()):
        tensor = numpy_helper.from_array(array, name)
        if number % 3 == 0:
            onnx.external_data_helper.set_external_data(
                tensor, "model.data", offset=len(behind), length=len(tensor.raw_data)
            )
            behind += tensor.raw_data
            tensor.ClearField("raw_data")
        stored.append(tensor)
    (folder / "model.data").write_bytes(behind)
    written(folder / "model.onnx", stored)


def digest_of_weights(folder):
    """Of everything that is known of a checkpoint, which is the first file with a suffix of one, or the folder."""
    files = [folder / name for name in ("model.safetensors.index.json", "model.h5", "model.onnx")]
    return digest_of(load(next((file for file in files if file.is_file()), folder)))


def digest_of(network):
    """Of the names, spaces and numbers of all weights."""
    digest = sha256()
    for weight in sorted(network.weights, key=lambda weight: weight.name):
        digest.update(f"{weight.name} {weight.source} {weight.target}".encode())
        digest.update(network.matrix(weight).contiguous().numpy().tobytes())
    return digest.hexdigest()


def digest_of_result(folder):
    """Of the page, which shows all that is saved."""
    return sha256(Analysis.load(folder).to_html().encode()).hexdigest()


def digest_of_tables(analysis):
    """Of all tables and frames, to the last bit."""
    digest = sha256()
    for name in analysis.table_names():
        digest.update(getattr(analysis, name).to_json(double_precision=15).encode())
    for name, frame in sorted(analysis.bases.items()):
        digest.update(name.encode() + frame.numpy().tobytes())
    return digest.hexdigest()
