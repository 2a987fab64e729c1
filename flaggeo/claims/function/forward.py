"""A language model run on a text, and run again from any of its layers with something taken away."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Places in the text whose logits exist at a time.
_PLACES = 64
#: Takes and returns the outputs of all heads of a layer, shape=[sequences, length, heads, d].
Edit = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Forward:
    """A causal language model of transformers with Llama's layers, and what it did with a text.

    Attributes
    ----------
    model : nn.Module
    tokens : Tensor, shape=[sequences, length]
    streams : tuple of Tensor, shape=[sequences, length, width]
        The residual stream before each layer, and behind the last.
    arguments : tuple of mapping
        What each layer was called with beside the stream.
    heads : tuple of Tensor, shape=[sequences, length, heads, d]
        Of each layer: the outputs of its attention heads, before the output projection.
    loss : float
        Mean cross-entropy of the next token, in nats.
    """

    model: Any
    tokens: Tensor
    streams: tuple[Tensor, ...]
    arguments: tuple[Mapping[str, Any], ...]
    heads: tuple[Tensor, ...]
    loss: float

    @property
    def layers(self) -> nn.ModuleList:
        """The model's layers."""
        layers: nn.ModuleList = self.model.get_decoder().layers
        return layers

    @torch.no_grad()
    def passed(self, layer: int, stream: Tensor, edit: Edit | None = None) -> Tensor:
        """The stream behind a layer, with the outputs of its heads edited, shape=[sequences, length, width]."""
        with _edited(self.layers[layer], self.model.config.num_attention_heads, edit or (lambda heads: heads)):
            return _stream(self.layers[layer](stream, **self.arguments[layer]))

    @torch.no_grad()
    def resumed(self, layer: int, stream: Tensor) -> tuple[float, tuple[Tensor, ...]]:
        """Run the layers from this one on, from a stream before it.

        Returns
        -------
        loss : float
        heads : tuple of Tensor, shape=[sequences, length, heads, d]
            Of the layers that were run.
        """
        heads: list[Tensor] = []
        for index in range(layer, len(self.layers)):
            stream = self.passed(index, stream, _noted(heads))
        return _loss(self.model, stream, self.tokens), tuple(heads)


@torch.no_grad()
def forward(model: Any, tokens: Tensor) -> Forward:
    """Run a model on a text and keep what its layers and heads did.

    Parameters
    ----------
    model : nn.Module
        A causal language model of transformers whose layers have ``self_attn.o_proj``, as those of Llama have.
    tokens : Tensor of int, shape=[sequences, length]

    Returns
    -------
    forward : Forward
    """
    streams: list[Tensor] = []
    arguments: list[Mapping[str, Any]] = []
    heads: list[Tensor] = []

    def before(_module: nn.Module, given: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        streams.append(given[0])
        arguments.append(keywords)

    def behind(_module: nn.Module, _given: tuple[Any, ...], returned: Any) -> None:
        streams.append(_stream(returned))

    layers = model.get_decoder().layers
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.enter_context(_edited(layer, model.config.num_attention_heads, _noted(heads)))
        stack.callback(layers[-1].register_forward_hook(behind).remove)
        model.get_decoder()(input_ids=tokens, use_cache=False)
    return Forward(model, tokens, tuple(streams), tuple(arguments), tuple(heads), _loss(model, streams[-1], tokens))


def _noted(heads: list[Tensor]) -> Edit:
    def note(found: Tensor) -> Tensor:
        heads.append(found)
        return found

    return note


@contextmanager
def _edited(layer: Any, heads: int, edit: Edit) -> Iterator[None]:
    """A layer whose output projection reads what is made of the outputs of its heads."""

    def before(_module: nn.Module, given: tuple[Tensor]) -> Tensor:
        return edit(given[0].unflatten(-1, (heads, -1))).flatten(-2)

    hook = layer.self_attn.o_proj.register_forward_pre_hook(before)
    try:
        yield
    finally:
        hook.remove()


def _stream(returned: Any) -> Tensor:
    """What a layer passes on; some versions of transformers return it with more."""
    stream: Tensor = returned[0] if isinstance(returned, tuple) else returned
    return stream


def _loss(model: Any, stream: Tensor, tokens: Tensor) -> float:
    """Mean cross-entropy of the next token, a few places at a time: logits are a vocabulary wide."""
    head, norm = model.get_output_embeddings(), model.get_decoder().norm
    places = zip(stream[:, :-1].flatten(0, 1).split(_PLACES), tokens[:, 1:].flatten().split(_PLACES), strict=True)
    losses = [nn.functional.cross_entropy(head(norm(one)), following, reduction="none") for one, following in places]
    return float(torch.cat(losses).double().mean())
