"""Damaged and hostile files: each is read, or refused in one line that names it; nothing else ever happens.

Every mutant is made from one seed and tried in a child that is forked from this process, with a limit on its memory and
its time. `make test` tries 200 of them, `make slow` 20,000.
"""

import json
import os
import random
import resource
import signal
import struct
import sys
import traceback
from collections import Counter
from dataclasses import dataclass

import gguf
import numpy as np
import pytest
import torch

from flaggeo import Analysis, analyze, load
from flaggeo.checkpoint import AdaptedCheckpoint, CheckpointError, open_checkpoint
from flaggeo.network import UnknownArchitectureError, read_network
from flaggeo.results.storage import ResultError
from tests.builders import save_folder, tiny_llama
from tests.flaggeo.checkpoint.test_adapter import factors_of, save_adapter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of children are those of Linux")
SECONDS, MEMORY = 30, 2 << 30
READ, REFUSED = 0, 3
# What no file in use has, and what the code might trip over.
NUMBERS = (0, -1, 1, 2, 3, 7, 2**31, 2**63, 2**64, -(2**63), 10**400, 1.5, 1e308, float("nan"), float("inf"))
ODD = (*NUMBERS, None, True, "", "x", "\x1b[2J", "../..", "9" * 5000, [], [1] * 50, {}, {"a": {"a": {}}})
Q = "model.layers.1.self_attn.q_proj"


@dataclass(frozen=True)
class Target:
    """A folder to damage, the files in it that may be, and what reads it."""

    folder: object
    files: tuple[str, ...]
    read: object


def read_whole(path):
    """Everything that is known of a checkpoint, and all its numbers."""
    network = load(path)
    for weight in network.weights:
        network.matrix(weight)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("originals")
    tensors = tiny_llama()
    base = save_folder(root / "safetensors", tensors)
    sharded = save_folder(root / "sharded", tensors, shards=2)
    adapter = save_adapter(root / "adapter", factors_of(tensors, (Q,)), alpha_pattern={"q_proj": 3.0})
    pickles = root / "pickle"
    pickles.mkdir()
    torch.save(tensors, pickles / "pytorch_model.bin")
    (pickles / "config.json").write_text((base / "config.json").read_text())
    packed = root / "gguf"
    packed.mkdir()
    writer = gguf.GGUFWriter(packed / "model.gguf", "llama")
    writer.add_block_count(1)
    for name, shape in {"attn_q": (8, 32), "attn_k": (8, 32), "attn_v": (8, 32), "attn_output": (32, 8)}.items():
        writer.add_tensor(f"blk.0.{name}.weight", np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    arrays = root / "npz"
    arrays.mkdir()
    np.savez(arrays / "model.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    (arrays / "config.json").write_text((base / "config.json").read_text())
    result = root / "result"
    analyze(load(base), rank=2).save(result)
    opened = open_checkpoint(base)

    def read_result(path):
        Analysis.load(path).to_html()

    def read_adapter(path):
        network = read_network(AdaptedCheckpoint(opened, path))
        for weight in network.weights:
            network.matrix(weight)

    index = ("model.safetensors.index.json", "model-00001-of-00002.safetensors")
    found = [
        Target(base, ("model.safetensors", "config.json"), read_whole),
        Target(sharded, (*index, "config.json"), lambda path: read_whole(path / index[0])),
        Target(adapter, ("adapter_config.json", "adapter_model.safetensors"), read_adapter),
        Target(pickles, ("pytorch_model.bin", "config.json"), read_whole),
        Target(packed, ("model.gguf",), read_whole),
        Target(arrays, ("model.npz", "config.json"), read_whole),
        Target(result, ("result.json", "weights.parquet", "pairs.parquet", "bases.safetensors"), read_result),
    ]
    for target in found:
        assert attempt(target, target.folder) == (READ, "")
    return found


def attempt(target, folder):
    """How a child that reads the folder ends, and what it has to say."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        code, said = 1, ""
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115, PTH123
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            signal.alarm(SECONDS)
            target.read(folder)
            code = READ
        except (CheckpointError, UnknownArchitectureError, ResultError, FileNotFoundError) as error:
            one_line = len(str(error).splitlines()) == 1
            named = folder.name in str(error) or str(target.folder.name) in str(error)
            code, said = (REFUSED, "") if one_line and named else (1, f"words: {error}")
        except BaseException:
            said = traceback.format_exc()
        os.write(into, said[-3000:].encode(errors="replace"))
        os._exit(code)
    os.close(into)
    with os.fdopen(out, "rb") as stream:
        said = stream.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said


def json_mutant(content, rng):
    """One value of a JSON object replaced, removed, or put under another name."""
    found = json.loads(content)
    places = []

    def collect(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                collect(node[key])

    collect(found)
    node, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[str(rng.choice(ODD))[:50]] = node.pop(key)
    else:
        node[key] = rng.choice(ODD)
    return json.dumps(found).encode()


def header_mutant(content, rng):
    """The header of a safetensors file with one value replaced, at its old or new length."""
    [length] = struct.unpack("<Q", content[:8])
    header = json_mutant(content[8 : 8 + length], rng)
    return struct.pack("<Q", len(header) if rng.random() < 0.9 else length) + header + content[8 + length :]


def byte_mutant(content, rng):
    """A few bytes changed, mostly near the beginning, where formats say what they hold."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(min(len(changed), rng.choice((64, 1024, len(changed)))))
        changed[place] = rng.choice((0, 255, rng.randrange(256)))
    return bytes(changed)


def mutant(content, name, rng):
    """A damaged version of a file, and whether it has to be refused."""
    kind = rng.randrange(10)
    if kind == 0:
        return content[: rng.randrange(len(content))], not name.endswith(".parquet")
    if kind == 1:
        place = rng.randrange(len(content))
        return content[:place] + rng.randbytes(rng.choice((1, 8, 100))) + content[place:], False
    if kind >= 4 and name.endswith(".json"):
        return json_mutant(content, rng), False
    if kind >= 5 and name.endswith(".safetensors"):
        return header_mutant(content, rng), False
    return byte_mutant(content, rng), False


def tried(targets, folder, seed):
    """What came of one mutant: its class, and what to say of it."""
    rng = random.Random(seed)
    target = rng.choice(targets)
    name = rng.choice(target.files)
    for file in target.folder.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / name).unlink()
    content, is_lost = mutant((target.folder / name).read_bytes(), name, rng)
    (folder / name).write_bytes(content)
    code, said = attempt(target, folder)
    for file in folder.iterdir():
        file.unlink()
    label = f"seed {seed}, {target.folder.name}/{name}: ended with {code} {said}"
    if code == READ and is_lost and name != "config.json":
        return "accepted though cut short", label
    return {READ: "read", REFUSED: "refused"}.get(code, "failed"), label


def all_tried(targets, tmp_path, seeds):
    folder = tmp_path / "mutant"
    folder.mkdir()
    found = [tried(targets, folder, seed) for seed in seeds]
    counts = Counter(kind for kind, _ in found)
    sys.stdout.write(f"{dict(counts)}\n")
    failed = [label for kind, label in found if kind not in ("read", "refused")]
    sys.stdout.write("\n".join(failed))
    return failed


def test_two_hundred_mutants_are_read_or_refused(targets, tmp_path):
    assert not all_tried(targets, tmp_path, range(200))


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_twenty_thousand_mutants_are_read_or_refused(targets, tmp_path, block):
    assert not all_tried(targets, tmp_path, range(1000 * (block + 1), 1000 * (block + 2)))
