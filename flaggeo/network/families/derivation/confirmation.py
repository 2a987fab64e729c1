"""Whether all that faces a stream was found: its coordinates are permuted there, and nothing may change."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from .labels import Label
from .parts import Analysis

_CLOSE = 1e-3
# Of the entries of matrices: attention to one position alone would amplify the error of rounding from layer to layer.
_SMALLER = 0.2


@torch.no_grad()
def is_closed(model: nn.Module, analysis: Analysis, norms: Mapping[str, str | None], run: Callable[[], Tensor]) -> bool:
    """Whether a model computes the same when the coordinates of its streams are permuted in all that faces them.

    Parameters
    ----------
    model : nn.Module
        Left with other weights.
    analysis : Analysis
        Of a forward pass.
    norms : mapping of str to str or None
        Names of the gains of norms to those of their biases.
    run : callable
        Runs the model and returns its output.
    """
    parameters = dict(model.named_parameters())
    for name, uses in analysis.trace.uses.items():
        if uses & {"bias", "position table", "scale"}:
            parameters[name].fill_(1.0 if "scale" in uses else 0.0)  # which axis these lie along is not followed
    for bias in norms.values():
        if bias is not None:
            parameters[bias].zero_()
    for buffer in model.buffers():
        if buffer.ndim > 1 and buffer.is_floating_point():
            buffer.zero_()  # positions computed from sines
    for parameter in parameters.values():
        if parameter.ndim > 1:
            parameter.mul_(_SMALLER)
    before = run()
    _permute(parameters, analysis)
    after = run()
    order = _order(analysis, analysis.logits)
    expected = before if order is None else before[..., order]
    return bool(expected.isfinite().all()) and torch.allclose(
        after, expected, rtol=_CLOSE, atol=_CLOSE * float(expected.abs().max())
    )


def is_shifted(analysis: Analysis) -> bool:
    """Whether something that is no parameter is added to a stream: then its coordinates cannot be permuted."""
    return any(_order(analysis, label) is not None for label in analysis.trace.shifted)


def _order(analysis: Analysis, label: Label | None) -> Tensor | None:
    """Permutation of the coordinates along which a tensor lies; None where it lies along no stream."""
    if label is None or label.entries is None:
        return None
    axes = analysis.axes.roots(label.entries)
    axis = min(axes) if len(axes) == 1 else None
    if axis is None or axis not in analysis.streams:
        return None
    size = analysis.axes.sizes[axis]  # two streams may share a table: one order for all that are equally wide
    return torch.randperm(size, generator=torch.Generator().manual_seed(size))


def _permute(parameters: Mapping[str, Tensor], analysis: Analysis) -> None:
    values = torch.cat([parameters[name].flatten() for name in analysis.trace.first_elements])
    permuted = values.clone()
    beside = dict(_gated_with_streams(analysis))
    for number, product in analysis.products.items():
        elements = product.elements.long() - 1
        rows, columns = torch.arange(elements.shape[0]), torch.arange(elements.shape[1])
        order = _order(analysis, beside.get(analysis.writes[number], Label(product.writes)))
        if order is not None and product.kind == "table":
            columns = _moved(analysis.axes.coordinates(product.writes), order)
        elif order is not None:
            rows = _moved(analysis.axes.coordinates(product.writes), order)
        axis = analysis.stream_read(number)
        if axis is not None and product.reads is not None:
            order = _order(analysis, Label(product.reads))
            assert order is not None
            columns = _moved(analysis.axes.coordinates(product.reads), order)
        permuted[elements] = values[elements[rows][:, columns]]
    for gain, label in analysis.trace.normed:
        order = _order(analysis, label)
        size = parameters[gain].numel()
        if order is not None and size == len(order):
            first = analysis.trace.first_elements[gain]
            permuted[first : first + size] = values[first : first + size][order]
    place = 0
    for name in analysis.trace.first_elements:
        size = parameters[name].numel()
        parameters[name].copy_(permuted[place : place + size].reshape(parameters[name].shape))
        place += size


def _gated_with_streams(analysis: Analysis) -> Iterator[tuple[int, Label]]:
    """Axes whose coordinates multiply those of a stream, and a label of the stream."""
    for encounter in analysis.trace.gatings:
        for one, other in ((encounter.left, encounter.right), (encounter.right, encounter.left)):
            if other.entries is not None and _order(analysis, one) is not None:
                yield from ((axis, one) for axis in analysis.axes.roots(other.entries))


def _moved(coordinates: Tensor, order: Tensor) -> Tensor:
    """For each place, the one that has the coordinate which comes there; equally often repeated ones in their order."""
    places = torch.argsort(coordinates, stable=True).reshape(len(order), -1)
    moved = torch.empty_like(coordinates)
    moved[places] = places[order]
    return moved
