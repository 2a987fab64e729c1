"""`flaggeo analyze` and `compare` on checkpoints of the shape of Llama-3-8B: time, memory and size of the result.

Run with ``python -m benchmarks.large_checkpoint [--layers N]``. Two checkpoints of 32 layers take 32 GB of disk;
results go to ``benchmarks/results/large_checkpoint.json``.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .whole_process import FLAGGEO, machine, trained, usage

RESULTS = Path(__file__).with_name("results") / "large_checkpoint.json"
_WIDTH, _HIDDEN, _KEYS, _VOCABULARY = 4096, 14336, 1024, 128256
_CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": _WIDTH,
    "intermediate_size": _HIDDEN,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": _VOCABULARY,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
_SHAPES = {
    **{f"self_attn.{role}_proj": (_WIDTH, _WIDTH) for role in "qo"},
    **{f"self_attn.{role}_proj": (_KEYS, _WIDTH) for role in "kv"},
    **{f"mlp.{role}_proj": (_HIDDEN, _WIDTH) for role in ("gate", "up")},
    "mlp.down_proj": (_WIDTH, _HIDDEN),
}


def main() -> None:
    """Make the checkpoints, run both commands, print and write what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    layers = parser.parse_args().layers
    with tempfile.TemporaryDirectory() as folder:
        model, tuned, out = (Path(folder) / name for name in ("model", "tuned", "out"))
        make_checkpoint(model, layers)
        make_tuned(model, tuned)
        record = {"machine": machine(), "layers": layers, "checkpoint_gb": _size(model) / 1e9, "rows": []}
        for command, sources in (("analyze", [model]), ("compare", [model, tuned])):
            used = usage([sys.executable, "-c", FLAGGEO, command, *map(str, sources), "-o", str(out / command), "-q"])
            record["rows"].append({"command": command, "result_mb": _size(out / command) / 1e6} | used)
            print(record["rows"][-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def make_checkpoint(folder: Path, layers: int) -> None:
    """Noise with 64 directions of a power law, in one shard a layer."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    shards = {
        "ends": {f"{name}.weight": (_VOCABULARY, _WIDTH) for name in ("model.embed_tokens", "lm_head")},
        **{
            f"layer-{layer}": {f"model.layers.{layer}.{name}.weight": shape for name, shape in _SHAPES.items()}
            for layer in range(layers)
        },
    }
    places = {}
    for shard, shapes in shards.items():
        save_file({name: trained(*shape, generator) for name, shape in shapes.items()}, folder / f"{shard}.safetensors")
        places |= dict.fromkeys(shapes, f"{shard}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (folder / "config.json").write_text(json.dumps(_CONFIG | {"num_hidden_layers": layers}))


def make_tuned(model: Path, tuned: Path) -> None:
    """The same with a change of rank 8 in every matrix, of a hundredth of its norm, rounded as it is stored."""
    tuned.mkdir()
    generator = torch.Generator().manual_seed(1)
    for file in model.iterdir():
        if file.suffix == ".safetensors":
            save_file({name: _changed(one, generator) for name, one in load_file(file).items()}, tuned / file.name)
        else:
            shutil.copy(file, tuned)


def _changed(matrix: Tensor, generator: torch.Generator) -> Tensor:
    left, right = (torch.randn(size, 8, generator=generator) for size in matrix.shape)
    change = left @ right.mT
    return (matrix + change * (0.01 * matrix.float().norm() / change.norm())).to(matrix.dtype)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    main()
