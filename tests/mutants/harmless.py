"""Mutants that say the same in other words: what is read of them has to be what is read of the original."""

import json
import struct

import h5py
import numpy as np
import onnx
import pandas as pd
import torch

from tests.flaggeo.checkpoint.foreign.test_onnx_file import written
from tests.mutants.originals import save_gguf


def shuffled(items, rng):
    """The items in another order."""
    return rng.sample(list(items), len(items))


def other_json(folder, rng):
    """A JSON file with other white space, its keys in another order, and one that nobody knows."""
    file = rng.choice(sorted(folder.glob("*.json")))
    found = json.loads(file.read_bytes())
    found = dict(shuffled((*found.items(), ("unheard_of", rng.random())), rng))
    separators = rng.choice(((",", ":"), (" ,\n", "\t: ")))
    file.write_text(json.dumps(found, indent=rng.choice((None, 0, 7)), separators=separators))


def other_safetensors(folder, rng):
    """Tensors in another order, in the header and in the file, and a header of another length."""
    file = rng.choice(sorted(folder.glob("*.safetensors")))
    content = file.read_bytes()
    [length] = struct.unpack("<Q", content[:8])
    header, numbers = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    behind = b""
    for name in shuffled(header, rng):
        first, end = header[name]["data_offsets"]
        header[name]["data_offsets"] = [len(behind), len(behind) + end - first]
        behind += numbers[first:end]
    entries = shuffled((*header.items(), ("__metadata__", {"format": "pt", "unheard_of": "x"})), rng)
    encoded = json.dumps(dict(entries)).encode()
    encoded += b" " * (-len(encoded) % 8 + 8 * rng.randrange(9))
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded + behind)


def other_pickle(folder, rng):
    """The same state dict in another order, of either format."""
    file = folder / "pytorch_model.bin"
    tensors = torch.load(file)
    ordered = {name: tensors[name] for name in shuffled(tensors, rng)}
    torch.save(ordered, file, _use_new_zipfile_serialization=rng.random() < 0.5)


def other_gguf(folder, rng):
    """The tensors in another order, and a setting that nobody knows."""
    (folder / "model.gguf").unlink()
    save_gguf(folder / "model.gguf", settings=["unheard.of"], backwards=rng.random() < 0.5)


def other_npz(folder, rng):
    """The members in another order, compressed or not, by columns or by rows."""
    with np.load(folder / "model.npz") as file:
        arrays = {name: file[name] for name in shuffled(file.files, rng)}
    if rng.random() < 0.5:
        arrays = {name: np.asfortranarray(array) for name, array in arrays.items()}
    save = rng.choice((np.savez, np.savez_compressed))
    save(folder / "model.npz", **arrays)


def other_keras(folder, rng):
    """The datasets in another order, compressed, in chunks."""
    found = {}
    with h5py.File(folder / "model.h5") as file:
        file.visititems(lambda name, one: found.update({name: one[()]}) if isinstance(one, h5py.Dataset) else None)
    with h5py.File(folder / "model.h5", "w") as file:
        for name in shuffled(found, rng):
            file.create_dataset(name, data=found[name], compression=rng.choice((None, "gzip")), chunks=True)


def other_onnx(folder, rng):
    """The initializers in another order, all of them in the file or none."""
    model = onnx.load(folder / "model.onnx")
    tensors = shuffled(model.graph.initializer, rng)
    written(folder / "model.onnx", tensors)
    if rng.random() < 0.5:
        model = onnx.load(folder / "model.onnx")
        onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="others", size_threshold=0)


def other_distributed(folder, rng):
    """A file that nobody names beside those of the checkpoint."""
    (folder / "__9_9.distcp").write_bytes(rng.randbytes(100))


def other_parquet(folder, rng):
    """A table in other groups of rows, compressed in another way."""
    file = rng.choice(sorted(folder.glob("*.parquet")))
    pd.read_parquet(file).to_parquet(
        file, compression=rng.choice((None, "zstd", "gzip")), row_group_size=rng.choice((1, 7, 1000))
    )


#: By the name of the original.
HARMLESS = {
    "safetensors": [other_json, other_safetensors],
    "sharded": [other_json, other_safetensors],
    "adapter": [other_json, other_safetensors],
    "pickle": [other_json, other_pickle],
    "gguf": [other_gguf],
    "npz": [other_json, other_npz],
    "keras": [other_json, other_keras],
    "onnx": [other_json, other_onnx],
    "distributed": [other_json, other_distributed],
    "result": [other_parquet, other_safetensors],
}
