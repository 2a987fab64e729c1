"""A network of 44 tensors, and the same with changes of a known rank in six of them."""

from functools import cache

import pandas as pd
import torch
from torch import Tensor

from flaggeo import load
from flaggeo.comparison.interference import interference_table
from flaggeo.comparison.tensors import tensor_table
from flaggeo.network import Network
from flaggeo.settings import Settings
from tests.builders import CONFIG, random_frame, tiny_llama

RANK = 4
SETTINGS = CONFIG | {"num_hidden_layers": 6}
#: Modules that change, in four neighbouring layers.
TOUCHED = tuple(
    f"model.layers.{layer}.self_attn.{role}_proj.weight"
    for layer, role in ((2, "q"), (2, "v"), (3, "q"), (4, "q"), (4, "v"), (5, "q"))
)


def base() -> dict[str, Tensor]:
    """State dict of a decoder of six layers whose unembedding is tied."""
    tensors = tiny_llama(layers=6)
    return {name: one for name, one in tensors.items() if "input_layernorm" not in name and name != "lm_head.weight"}


def tuned(names: tuple[str, ...] = TOUCHED, *, rank: int = RANK, seed: int = 0) -> dict[str, Tensor]:
    """The base with a change of equal singular values along random directions in each of these."""
    tensors = base()
    for place, name in enumerate(names):
        left, right = frames(name, place, rank=rank, seed=seed)
        tensors[name] = tensors[name] + (left @ right.mT).float()
    return tensors


def frames(name: str, place: int, *, rank: int = RANK, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Output and input directions of the change of one tensor."""
    rows, columns = base()[name].shape
    left, right = (
        random_frame(dim, rank, seed=1000 * seed + 10 * place + side) for side, dim in enumerate((rows, columns))
    )
    return left, right


def network(tensors: dict[str, Tensor]) -> Network:
    """The network of a state dict like the base."""
    return load(tensors, config=SETTINGS)


@cache
def base_network() -> Network:
    """That of the base, read once."""
    return network(base())


def became(after: Network, *, before: Network | None = None, version: str = "b", rank: int = RANK) -> pd.DataFrame:
    """What became of every tensor, with nothing known of the weights."""
    unmeasured = pd.DataFrame({"name": pd.Series(dtype=str)})
    return tensor_table(
        version, before or base_network(), after, unmeasured, Settings(rank=rank), torch.device("cpu"), None
    )


def in_common(first: Network, second: Network, *, before: Network | None = None, rank: int = RANK) -> pd.DataFrame:
    """What the changes of two fine-tunings have in common."""
    both = (first, second)
    tables = [became(one, before=before, version=name, rank=rank) for one, name in zip(both, "bc", strict=True)]
    tensors = pd.concat(tables, ignore_index=True)
    return interference_table(before or base_network(), both, tensors, Settings(rank=rank), torch.device("cpu"), None)
