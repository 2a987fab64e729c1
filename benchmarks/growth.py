"""How the time of `analyze` grows with the width, the depth, the rank and the number of heads.

Run with ``python -m benchmarks.growth``: about four minutes. Times are CPU seconds of one thread, without reading and
without the page, of random models in the shape of a Llama; results go to ``benchmarks/results/growth.json``.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import flaggeo

from .whole_process import machine, trained

RESULTS = Path(__file__).with_name("results") / "growth.json"
_MODEL = {"width": 256, "layers": 8, "heads": 8, "rank": 16}
_VARIED: dict[str, tuple[list[int], dict[str, int]]] = {
    "width": ([512, 1024, 2048], {"layers": 2}),
    "layers": ([8, 16, 32], {}),
    "rank": ([8, 16, 32, 64], {}),
    "heads": ([8, 16, 32], {"layers": 4}),
}


def main() -> None:
    """Print one line for each quantity that is varied, and write them all."""
    torch.set_num_threads(1)
    seconds(**_MODEL)  # loads what is loaded once
    rows = []
    for quantity, (values, changes) in _VARIED.items():
        model = _MODEL | changes
        times = [seconds(**model | {quantity: value}) for value in values]
        exponent = float(np.polyfit(np.log(values), np.log(times), 1)[0])
        model.pop(quantity)
        rows.append({"quantity": quantity, "values": values, "seconds": times, "exponent": exponent, "model": model})
        print(f"{quantity} {values}: {', '.join(f'{one:.2f}' for one in times)} s, to the power of {exponent:.2f}")
    RESULTS.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


def seconds(*, width: int, layers: int, heads: int, rank: int) -> float:
    """CPU seconds of one analysis, with every head as a weight of its own."""
    config = {"model_type": "llama", "num_hidden_layers": layers, "num_attention_heads": heads}
    network = flaggeo.load(llama(width, layers), config)
    start = time.process_time()
    flaggeo.analyze(network, rank=rank, measure=["continuity", "pairs", "heads"])
    return time.process_time() - start


def llama(width: int, layers: int) -> dict[str, Tensor]:
    """Attention and MLP of so many layers, three times as wide inside."""
    generator = torch.Generator().manual_seed(0)
    shapes = {f"self_attn.{role}_proj": (width, width) for role in "qkvo"}
    shapes |= {f"mlp.{role}_proj": (3 * width, width) for role in ("gate", "up")} | {
        "mlp.down_proj": (width, 3 * width)
    }
    return {
        f"model.layers.{layer}.{name}.weight": trained(*shape, generator)
        for layer in range(layers)
        for name, shape in shapes.items()
    }


if __name__ == "__main__":
    main()
