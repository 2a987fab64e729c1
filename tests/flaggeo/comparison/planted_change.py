"""A network of 44 tensors, and the same with changes of a known rank in six of them."""

from torch import Tensor

from tests.builders import random_frame, tiny_llama

RANK = 4
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
