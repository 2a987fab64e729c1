"""What `flaggeo.Monitor` takes of a training step, and how long it takes to follow leading directions.

Run with ``python -m benchmarks.monitor``: about five minutes. Runs with and without a monitor take turns step by step,
on the same model, data and seeds, and one thread; results go to ``benchmarks/results/monitor.json``.
"""

import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from flaggeo import Monitor
from flaggeo.numerics.following import followed_spectrum
from flaggeo.numerics.spectrum import leading_spectrum

from .whole_process import machine, trained

RESULTS = Path(__file__).with_name("results") / "monitor.json"
# A small transformer, and batches of 1,024 tokens.
_CONFIG: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
}
_BATCH, _EVERY, _ROUNDS, _RANK = (8, 128), 100, 2, 8
_KINDS: dict[str, dict[str, Any] | None] = {"alone": None, "watched": {}, "with_gradients": {"gradients": True}}
_SHAPES = ((1024, 1024), (2048, 2048), (5632, 2048))


def main() -> None:
    """Print the numbers and write them."""
    torch.set_num_threads(1)
    turns = [turn(seed) for seed in range(_ROUNDS)]
    means = {name: statistics.mean(one[name] for one in turns) for name in turns[0]}
    followed = [following(shape) for shape in _SHAPES]
    result = {"machine": machine(), "rounds": _ROUNDS, "steps": _EVERY, "monitor": means, "turns": turns}
    text = json.dumps(result | {"following": followed}, indent=1)
    print(text)
    RESULTS.write_text(text + "\n")


def turn(seed: int) -> dict[str, float]:
    """CPU seconds of as many steps as lie between two records, without a monitor and with two kinds of one.

    The three runs take turns step by step, so that whatever else the machine does slows all of them alike.
    """
    seconds = dict.fromkeys(_KINDS, 0.0)
    inside = dict.fromkeys(_KINDS, 0.0)
    with ExitStack() as stack:
        runs = {}
        for name, options in _KINDS.items():
            torch.manual_seed(seed)
            model = LlamaForCausalLM(LlamaConfig(**_CONFIG))
            folder = stack.enter_context(TemporaryDirectory())
            monitor = None if options is None else stack.enter_context(Monitor(model, folder, every=_EVERY, **options))
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
            runs[name] = (model, optimizer, torch.Generator().manual_seed(seed), monitor)
        for _ in range(_EVERY):
            for name, (model, optimizer, generator, monitor) in runs.items():
                start = time.process_time()
                make_step(model, optimizer, generator)
                between = time.process_time()
                if monitor is not None:
                    monitor.step()
                end = time.process_time()
                seconds[name] += end - start
                inside[name] += end - between
        alone, *others = (list(model.parameters()) for model, *_ in runs.values())
        assert all(torch.equal(one, same) for other in others for one, same in zip(alone, other, strict=True))
        assert all(run[-1] is None or run[-1].recorded == [0, _EVERY] for run in runs.values())
    found = {f"{name}_s": value for name, value in seconds.items()}
    for name in ("watched", "with_gradients"):
        found[f"{name}_share"] = seconds[name] / seconds["alone"] - 1
        found[f"{name}_record_s"] = inside[name]
    return found


def make_step(model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> None:
    """One step of training on a batch of random tokens."""
    tokens = torch.randint(_CONFIG["vocab_size"], _BATCH, generator=generator)
    optimizer.zero_grad()
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()


def following(shape: tuple[int, int]) -> dict[str, Any]:
    """CPU seconds of a cold and a warm start on a matrix that moved by one per cent, and the sine between the two."""
    generator = torch.Generator().manual_seed(0)
    matrix = trained(*shape, generator).float()
    _, start = followed_spectrum(matrix, _RANK, None, generator)
    noise = torch.randn(shape, generator=generator)
    moved = matrix + 0.01 * noise * matrix.norm() / noise.norm()
    cold, cold_s = timed(lambda: leading_spectrum(moved, _RANK).right)
    warm, warm_s = timed(lambda: followed_spectrum(moved, _RANK, start, generator)[0].right)
    sine = float(torch.linalg.matrix_norm(warm - cold @ (cold.mT @ warm), 2))
    return {"rows": shape[0], "columns": shape[1], "cold_s": cold_s, "warm_s": warm_s, "sine": sine}


def timed(run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """What it gives, and the CPU seconds of its fastest run of three."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        found = run()
        seconds.append(time.process_time() - start)
    return found, min(seconds)


if __name__ == "__main__":
    main()
