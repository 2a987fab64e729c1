"""Mutants that have to be refused: what they say is not so, or leads out of the file, or is code."""

import json
import pickle
import struct
import zipfile
from zlib import Z_BEST_SPEED

import h5py
import numpy as np
import onnx
import torch
from torch.distributed.checkpoint.metadata import Metadata

from tests.flaggeo.checkpoint.foreign.test_onnx_file import beside, written
from tests.flaggeo.checkpoint.pytorch.test_distributed_folder import metadata_of, write_metadata
from tests.flaggeo.checkpoint.pytorch.test_pickles import Intruder, rewritten

#: What code would make, if any of it ran.
MARK = "executed"
WEIGHT = "model.layers.1.self_attn.q_proj.weight"
BEYOND = (2**20, 2**31, 2**40, 2**62)
OUTSIDE = ("../outside", "/dev/zero", "/etc/passwd", "..", "a/../../outside")


def cut(folder, rng, files):
    """A file that ends too early."""
    file = folder / rng.choice(files)
    file.write_bytes(file.read_bytes()[: rng.randrange(file.stat().st_size)])


def header_beyond_the_file(folder, rng):
    """A safetensors header whose tensor is larger than the file."""
    file = next(folder.glob("*.safetensors"))
    content = file.read_bytes()
    [length] = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    if rng.random() < 0.5:
        entry["shape"][0] = rng.choice(BEYOND)
    else:
        entry["data_offsets"][1] = rng.choice(BEYOND)
    encoded = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])


def lost_tensor(folder, rng):
    """An index that names a tensor which no shard holds, or a shard that is not there or lies elsewhere."""
    file = folder / "model.safetensors.index.json"
    found = json.loads(file.read_bytes())
    weights = found["weight_map"]
    if rng.random() < 0.5:
        weights[f"model.layers.{rng.randrange(9)}.lost.weight"] = rng.choice(list(weights.values()))
    else:
        weights[rng.choice(list(weights))] = rng.choice(("model-00003-of-00002.safetensors", *OUTSIDE))
    file.write_text(json.dumps(found))


def call_in_a_pickle(folder, rng):
    """A state dict that calls something when it is loaded."""
    file = folder / "pytorch_model.bin"
    tensors = torch.load(file) | {rng.choice(("x", WEIGHT)): Intruder(folder / MARK)}
    torch.save(tensors, file, _use_new_zipfile_serialization=rng.random() < 0.5)


def bomb_of_torch(folder, rng):
    """Records of an archive that inflate to far more than the file."""
    size = rng.choice((2**20, 2**24))
    rewritten(folder / "pytorch_model.bin", {f"data/{rng.randrange(20)}": bytes(size)}, compressed=("data/0",))
    with zipfile.ZipFile(folder / "pytorch_model.bin", "a") as archive:
        archive.writestr("archive/data/more", bytes(size), zipfile.ZIP_DEFLATED)


def bomb_of_numpy(folder, rng):
    """An array of zeros beside the others, which inflates to a thousand times its size."""
    size = rng.choice((2**25, 2**27))
    with (
        zipfile.ZipFile(folder / "model.npz", "a", zipfile.ZIP_DEFLATED, compresslevel=Z_BEST_SPEED) as archive,
        archive.open("more.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (size // 4,)})
        for _ in range(size >> 20):
            member.write(bytes(2**20))


def array_beyond_the_file(folder, rng):
    """An array that claims gigabytes and holds none, or objects, which are pickles."""
    with zipfile.ZipFile(folder / "model.npz", "a") as archive, archive.open("more.npy", "w") as member:
        if rng.random() < 0.5:
            np.save(member, np.array([Intruder(folder / MARK)], dtype=object))
        else:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rng.choice(BEYOND), 8)}
            np.lib.format.write_array_header_1_0(member, header)


def numbers_elsewhere_of_keras(folder, rng):
    """A link, or numbers of another file or another dataset, or none at all."""
    with h5py.File(folder / "model.h5", "a") as file:
        kind = rng.randrange(5)
        if kind == 0:
            file["more"] = h5py.ExternalLink(rng.choice(OUTSIDE), "/a")
        elif kind == 1:
            file["more"] = h5py.SoftLink(rng.choice(("/model", "/more", "/nowhere")))
        elif kind == 2:
            file.create_dataset("more", (4,), "f4", external=[(rng.choice(OUTSIDE), 0, 16)])
        elif kind == 3:
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource(rng.choice(OUTSIDE), "a", (4,))
            file.create_virtual_dataset("more", layout)
        else:
            file.create_dataset("more", (rng.choice(BEYOND), 8), "f4", chunks=rng.choice((None, (1024, 8))))


def numbers_elsewhere_of_onnx(folder, rng):
    """An initializer whose numbers are outside the folder, or beyond the end of the file beside it."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    (folder.parent / "outside").write_bytes(bytes(4096))
    size = (folder / "model.data").stat().st_size
    place = {"location": "model.data", "offset": 0, "length": 64}
    kind = rng.randrange(4)
    if kind == 0:
        place["location"] = rng.choice((*OUTSIDE, str(folder.parent / "outside"), "missing", ""))
    elif kind == 1:
        place["offset"] = rng.choice((-64, size - 63, size, *BEYOND))
    elif kind == 2:
        place["length"] = rng.choice((-1, 0, 63, 65, size + 1, *BEYOND))
    else:
        (folder / "linked").symlink_to(folder.parent / "outside")
        place |= {"location": "linked"}
    # A name that the structure knows, so that its numbers are read.
    others = [tensor for tensor in model.graph.initializer if tensor.name != WEIGHT]
    written(folder / "model.onnx", [*others, beside(WEIGHT, (4, 4), **place)])


def elsewhere_in_metadata(folder, rng):
    """Metadata of torch.distributed that call something, or name bytes outside the files of the folder."""
    kind = rng.randrange(4)
    if kind == 0:
        file = folder / ".metadata"
        file.write_bytes(pickle.dumps(Metadata({}, planner_data=Intruder(folder / MARK)), rng.randrange(2, 6)))
        return
    metadata = metadata_of(folder)
    info = rng.choice(list(metadata.storage_data.values()))
    if kind == 1:
        info.relative_path = rng.choice((*OUTSIDE, "missing.distcp", ""))
    elif kind == 2:
        setattr(info, rng.choice(("offset", "length")), rng.choice((-1, *BEYOND)))
    else:
        record = rng.choice(list(metadata.state_dict_metadata.values()))
        record.size = torch.Size((rng.choice(BEYOND), *record.size[1:]))
    write_metadata(folder, metadata)


def more_than_a_gguf_holds(folder, rng):
    """A count of tensors or settings, or a length of a name, that the file has no room for."""
    file = folder / "model.gguf"
    content = bytearray(file.read_bytes())
    place = rng.choice((8, 16, 24))  # tensors, settings, length of the first setting's name
    content[place : place + 8] = struct.pack("<Q", rng.choice(BEYOND))
    file.write_bytes(content)


#: By the name of the original.
HOSTILE = {
    "safetensors": [header_beyond_the_file],
    "sharded": [lost_tensor],
    "adapter": [header_beyond_the_file],
    "pickle": [call_in_a_pickle, bomb_of_torch],
    "gguf": [more_than_a_gguf_holds],
    "npz": [bomb_of_numpy, array_beyond_the_file],
    "keras": [numbers_elsewhere_of_keras],
    "onnx": [numbers_elsewhere_of_onnx],
    "distributed": [elsewhere_in_metadata],
    "result": [header_beyond_the_file],
}
