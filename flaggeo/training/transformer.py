"""A decoder in the manner of Llama as a pure function of stacked parameters, like the perceptrons."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .activations import ACTIVATIONS
from .models import Parameters
from .normalization import NORMS
from .seeds import generator

# The largest wavelength of the rotary embedding over 2π, and the norm of the blocks.
_BASE, _NORM = 10_000.0, NORMS["rmsnorm"]


@dataclass(frozen=True)
class Transformer:
    r"""Blocks of attention and gated MLP, with rotary embeddings and RMSNorm, over tokens.

    .. math:: h \leftarrow h + W_O \, \mathrm{attention}(W_Q x, W_K x, W_V x), \quad
        h \leftarrow h + W_{down}(\sigma(W_{gate} x) \cdot W_{up} x), \quad x = \mathrm{norm}(h)

    Without residual connections both outputs replace the stream. The head is not tied to the embedding.

    Attributes
    ----------
    width, hidden, depth, heads : int
        d of the stream, units of an MLP, number of blocks, and heads of each.
    activation : str
        σ of the gate, one of `ACTIVATIONS`.
    residual : bool
    tokens : int
        Size of the vocabulary.
    deviation : float
        Standard deviation of all first weights, which are Gaussian.

    References
    ----------
    arXiv:2605.04971, section 5.1.
    """

    width: int
    hidden: int
    depth: int
    heads: int
    activation: str = "silu"
    residual: bool = True
    tokens: int = 256
    deviation: float = 0.02

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """The weights of a block by role, and their shapes."""
        d, hidden = self.width, self.hidden
        attention = dict.fromkeys(("q", "k", "v", "o"), (d, d))
        return attention | {"gate": (hidden, d), "up": (hidden, d), "down": (d, hidden)}

    def initial(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """First parameters; the same for all activations, and with and without residual connections."""
        shapes: dict[str, tuple[int, ...]] = {}
        shapes |= {name: (self.depth, *shape) for name, shape in self.projections.items()}
        shapes |= dict.fromkeys(("embedding", "head"), (self.tokens, self.width))
        streams = [generator(seed, "weights") for seed in seeds]
        found = {}
        for name, shape in shapes.items():
            drawn = [torch.randn(shape, generator=stream, dtype=torch.float64) for stream in streams]
            found[name] = self.deviation * torch.stack(drawn)
        for name, count in (("attention_gains", self.depth), ("mlp_gains", self.depth), ("last_gain", 1)):
            found[name] = torch.ones((len(seeds), count, 1, self.width), dtype=torch.float64)
        return found

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Scores of the next token at every place, shape=[runs, batch, length, tokens], from tokens up to there."""
        runs, batch, length = inputs.shape
        own = inputs.flatten(1) + self.tokens * torch.arange(runs, device=inputs.device)[:, None]
        stream = functional.embedding(own, parameters["embedding"].flatten(0, 1))
        turns = rotary_turns(length, self.width // self.heads, stream)
        of_layers = {name: parameters[name].unbind(1) for name in (*self.projections, "attention_gains", "mlp_gains")}
        for values in zip(*of_layers.values(), strict=True):
            block = dict(zip(of_layers, values, strict=True))
            attended = self._attention(block, _NORM(stream, block["attention_gains"], None), turns, (batch, length))
            stream = stream + attended if self.residual else attended
            written = self._mlp(block, _NORM(stream, block["mlp_gains"], None))
            stream = stream + written if self.residual else written
        scores = torch.bmm(_NORM(stream, parameters["last_gain"][:, 0], None), parameters["head"].mT)
        return scores.view(runs, batch, length, self.tokens)

    def _attention(self, block: Parameters, read: Tensor, turns: Tensor, shape: tuple[int, int]) -> Tensor:
        batch, length = shape

        def of_heads(name: str) -> Tensor:
            signal = torch.bmm(read, block[name].mT)
            return signal.reshape(-1, length, self.heads, self.width // self.heads).transpose(1, 2)

        q, k = (turned(of_heads(name), turns) for name in ("q", "k"))
        attended = functional.scaled_dot_product_attention(q, k, of_heads("v"), is_causal=True)
        return torch.bmm(attended.transpose(1, 2).reshape(-1, batch * length, self.width), block["o"].mT)

    def _mlp(self, block: Parameters, read: Tensor) -> Tensor:
        gate = ACTIVATIONS[self.activation](torch.bmm(read, block["gate"].mT))
        return torch.bmm(gate * torch.bmm(read, block["up"].mT), block["down"].mT)


def rotary_turns(length: int, width: int, like: Tensor) -> Tensor:
    """The rotation at every place, shape=[length, width, width].

    Each coordinate of the first half turns with its partner in the second. As a matrix, for one small product takes
    less time than the many sums of its parts.
    """
    frequencies = _BASE ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)
    cosine, sine = torch.diag_embed(angles.cos()), torch.diag_embed(angles.sin())
    return torch.cat([torch.cat([cosine, -sine], dim=-1), torch.cat([sine, cosine], dim=-1)], dim=-2).to(like)


def turned(signal: Tensor, turns: Tensor) -> Tensor:
    """Vectors at every place turned by the rotation of that place, shape=[..., length, width]."""
    return torch.einsum("...tj,tij->...ti", signal, turns)
