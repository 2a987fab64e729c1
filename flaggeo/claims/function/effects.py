"""What a language model loses without each of its heads and layers, measured a layer at a time."""

import io
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...results.storage import replace_file
from ..experiment import Progress
from .forward import Edit, Forward, forward

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Effects:
    """What taking away the heads and layers of a model does to it, on one text.

    Attributes
    ----------
    without_head : ndarray, shape=[layers, heads]
        Rise of the loss, in nats a token, where a head's output is replaced by its mean over the text.
    on_heads : ndarray, shape=[layers, heads, layers, heads]
        How far the output of a later head moves then: the norm of its change over that of its deviation from its
        mean. NaN where it is not later.
    without_layer : ndarray, shape=[layers]
        Rise of the loss where a layer is left out.
    as_previous : ndarray, shape=[layers]
        Rise of the loss where the layer before takes its place; NaN for the first.
    influence : ndarray, shape=[layers]
        Block influence (arXiv:2403.03853, section 3.1): 1 minus the mean cosine of the stream before and behind.
    """

    without_head: Array
    on_heads: Array
    without_layer: Array
    as_previous: Array
    influence: Array


def effects(model: Any, tokens: Tensor, *, scratch: Path, progress: Progress = lambda *_: None) -> Effects:
    """Take away each head and each layer of a model, one at a time.

    Parameters
    ----------
    model, tokens
        As for `forward`.
    scratch : Path
        Folder for what is known of each layer, from which an interrupted run goes on. It is known by the weights and
        the text.
    progress : callable, optional
        Told how many layers are done, of how many.

    Returns
    -------
    effects : Effects
    """
    model.eval()
    run = forward(model, tokens)
    count, key = len(run.layers), _key(model, tokens)
    found = []
    for layer in range(count):
        progress(layer, count)
        file = scratch / f"{key}-{layer}.npz"
        one = _recalled(file, run)
        if one is None:
            one = _of_layer(run, layer)
            content = io.BytesIO()
            np.savez(content, **asdict(one))
            replace_file(file, content.getvalue())
        found.append([getattr(one, field.name) for field in fields(Effects)])
    return Effects(*map(np.stack, zip(*found, strict=True)))


def _recalled(file: Path, run: Forward) -> Effects | None:
    """What was kept of a layer; None where nothing was, or it is damaged."""
    heads, layers = run.heads[0].shape[-2], len(run.layers)
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
            found = Effects(*(arrays[field.name] for field in fields(Effects)))
    except Exception:  # whatever a damaged file makes of itself
        return None
    shapes = [getattr(found, field.name).shape for field in fields(Effects)]
    return found if shapes == [(heads,), (heads, layers, heads), (), (), ()] else None


def _key(model: Any, tokens: Tensor) -> str:
    digest = sha256(tokens.cpu().numpy().tobytes())
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _of_layer(run: Forward, layer: int) -> Effects:
    """The effects of one layer and its heads, without the axis of the layers."""
    stream, behind = run.streams[layer], run.streams[layer + 1]
    heads = run.heads[layer].shape[-2]
    on_heads = np.full((heads, len(run.layers), heads), np.nan)
    rises = np.empty(heads)
    for head in range(heads):
        loss, later = run.resumed(layer + 1, run.passed(layer, stream, _without(head)))
        rises[head] = loss - run.loss
        for index, moved in enumerate(later, start=layer + 1):
            on_heads[head, index] = _movement(run.heads[index], moved)
    as_previous = np.nan
    if layer > 0:
        as_previous = run.resumed(layer + 1, run.passed(layer - 1, stream))[0] - run.loss
    cosine = torch.nn.functional.cosine_similarity(stream, behind, dim=-1).mean()
    without = run.resumed(layer + 1, stream)[0] - run.loss
    return Effects(rises, on_heads, *map(np.asarray, (without, as_previous, float(1 - cosine))))


def _without(head: int) -> Edit:
    def edit(heads: Tensor) -> Tensor:
        edited = heads.clone()
        edited[:, :, head] = heads[:, :, head].mean(dim=(0, 1))
        return edited

    return edit


def _movement(before: Tensor, behind: Tensor) -> Array:
    """Of each head, shape=[heads]."""
    change = (behind - before).square().sum(dim=(0, 1, 3))
    spread = (before - before.mean(dim=(0, 1))).square().sum(dim=(0, 1, 3))
    return (change / spread).sqrt().double().cpu().numpy()
