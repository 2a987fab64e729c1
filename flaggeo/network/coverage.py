"""How much of a model its weights are: the share of all parameters that is analysed."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from math import prod

from .quiver import Network
from .roles import in_tower


@dataclass(frozen=True)
class Coverage:
    """Parameters of a checkpoint.

    Attributes
    ----------
    total : int
        Of all tensors other than buffers, each counted once.
    analysed : mapping of str to int
        Of the weights, by the block that they belong to, behind its tower where there are several.
    buffers : int
        Numbers in buffers, which are no parameters.
    """

    total: int
    analysed: Mapping[str, int]
    buffers: int = 0

    @property
    def share(self) -> float:
        """Share of all parameters that belongs to a weight, in [0, 1]."""
        return sum(self.analysed.values()) / self.total if self.total else 0.0

    @property
    def left_out(self) -> int:
        """Parameters that belong to no weight: norms, biases, and tensors that were not recognised."""
        return self.total - sum(self.analysed.values())

    def __str__(self) -> str:
        """How much of the model is analysed, the largest block first."""
        total = max(self.total, 1)
        blocks = sorted(self.analysed.items(), key=lambda item: -item[1])
        parts = ", ".join(f"{block} {number / total:.1%}" for block, number in blocks)
        beside = f"; {self.buffers:,} numbers in buffers are not counted" if self.buffers else ""
        # What is left out may be less than a decimal shows.
        share = f"{self.share:.1%}"
        if share == "100.0%" and self.left_out:
            share = f"{min(self.share, 0.9999):.2%}"
        return f"{share} of {self.total:,} parameters are analysed" + (f" ({parts})" if parts else "") + beside

    def record(self) -> dict[str, object]:
        """Plain numbers for JSON and for the provenance of a result."""
        return {"total": self.total, "analysed": dict(self.analysed), "buffers": self.buffers}


def coverage(network: Network, failed: Container[str] = ()) -> Coverage:
    """Count the parameters of a network's weights, those of a shared tensor by the rows that are used.

    Parameters
    ----------
    network : Network
    failed : container of str, optional
        Names of tensors that could not be measured: they are not analysed.

    Returns
    -------
    coverage : Coverage

    Examples
    --------
    >>> import torch
    >>> from flaggeo import load
    >>> tensors = {"layers.0.mlp.up_proj.weight": torch.ones(4, 3), "layers.0.mlp.down_proj.weight": torch.ones(3, 4)}
    >>> coverage(load(tensors | {"norm.weight": torch.ones(8)})).share
    0.75
    """
    headers = network.checkpoint.headers
    sizes = {name: prod(header.shape) for name, header in headers.items()}
    counted: dict[str, set[object]] = {}
    analysed: dict[str, int] = {}
    for weight in network.weights:
        if weight.tensor in failed:
            continue
        block = in_tower(weight.tower, weight.record.block.value)
        part = (weight.split.expert, weight.split.rows)
        if weight.head is None and part not in counted.setdefault(weight.tensor, set()):
            counted[weight.tensor].add(part)
            shared = weight.split.expert is not None or weight.split.rows is not None
            columns = headers[weight.tensor].shape[-1] if weight.after else weight.source.dim
            own = weight.target.dim * columns if shared or weight.after else sizes[weight.tensor]
            analysed[block] = analysed.get(block, 0) + own
        if weight.after is not None and weight.after.rows not in counted.setdefault(weight.after.tensor, set()):
            counted[weight.after.tensor].add(weight.after.rows)
            height, width = headers[weight.after.tensor].shape
            first, last = weight.after.rows or (0, height)
            analysed[block] = analysed.get(block, 0) + (last - first) * width
    buffers = sum(sizes[item.tensor] for item in network.skipped if not item.is_parameter)
    return Coverage(sum(sizes.values()) - buffers, analysed, buffers)
