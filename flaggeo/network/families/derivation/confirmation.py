"""Whether all that faces a stream was found: its coordinates are permuted there, and nothing may change."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from .labels import Label, Product
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
    matrices = {analysis.name(number) for number in analysis.products}
    for name, uses in analysis.trace.uses.items():
        if name not in matrices and "position" in uses:
            parameters[name].zero_()
        if uses & {"bias", "added", "joined", "scale", "norm"}:
            parameters[name].fill_(
                1.0 if uses & {"scale", "norm"} else 0.0
            )  # which axis these lie along is not followed
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


def is_fixed(analysis: Analysis) -> bool:
    """Whether the coordinates of a stream cannot be permuted: no parameter shifts it, or it is cut in groups."""
    shifted = any(_order(analysis, label) is not None for label in analysis.trace.shifted)
    return shifted or any(_is_grouped(analysis, product) for product in analysis.products.values())


def _order(analysis: Analysis, label: Label | None) -> Tensor | None:
    """Permutation of the coordinates along which a tensor lies; None where it lies along no stream."""
    if label is None or label.entries is None or label.parameter:
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
    for name, label in analysis.trace.normed:
        order = _order(analysis, label)
        first, shape = analysis.trace.first_elements[name], parameters[name].shape
        if order is not None and shape[0] % len(order) == 0 and label.entries is not None:
            own = values[first : first + parameters[name].numel()]
            repeated = torch.arange(shape[0]).reshape(-1, len(order))[:, order].flatten()
            permuted[first : first + len(own)] = own.reshape(shape)[repeated].flatten()
    place = 0
    for name in analysis.trace.first_elements:
        size = parameters[name].numel()
        parameters[name].copy_(permuted[place : place + size].reshape(parameters[name].shape))
        place += size


def _is_grouped(analysis: Analysis, product: Product) -> bool:
    """Whether it writes one group of the coordinates of a stream, as a convolution in groups does."""
    order = _order(analysis, Label(product.writes))
    return order is not None and len(product.writes) < len(order)


def _gated_with_streams(analysis: Analysis) -> Iterator[tuple[int, Label]]:
    """Axes whose coordinates multiply those of a stream one by one, and a label of the stream."""
    pairs = [(encounter.left, encounter.right) for encounter in analysis.trace.gatings]
    pairs += [(meeting.left, meeting.right) for meeting in analysis.trace.meetings]
    for left, right in pairs:
        for one, other in ((left, right), (right, left)):
            if other.entries is not None and _order(analysis, one) is not None:
                yield from ((axis, one) for axis in analysis.axes.roots(other.entries))


def _moved(coordinates: Tensor, order: Tensor) -> Tensor:
    """For each place, the one that has the coordinate which comes there; equally often repeated ones in their order."""
    places = torch.argsort(coordinates, stable=True).reshape(len(order), -1)
    moved = torch.empty_like(coordinates)
    moved[places] = places[order]
    return moved
