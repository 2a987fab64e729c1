"""Balance and commutator where two weights meet, from the leading directions of each and products with these."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...alignment import Composable
from ...alignment.interfaces.interface import rounding
from ...alignment.interfaces.leading_directions import WINDOW_CONTRAST, WINDOW_RHO, LeadingDirections
from ...alignment.table import measured
from ...network import Side, SpaceKind
from ...numerics.blocks import row_blocks
from ...numerics.products import matrix_product
from ...numerics.spectrum import Spectrum
from .records import OF_INTERFACES


def is_watched(interface: Composable) -> bool:
    """Whether two single weights meet there, in an MLP or in an attention head."""
    inside = interface.space.kind is SpaceKind.HIDDEN or interface.head is not None
    return inside and len(interface.first) == len(interface.second) == 1


def interface_rows(
    interfaces: Sequence[Composable], spectra: Mapping[str, Spectrum], matrices: Mapping[str, Tensor]
) -> list[dict[str, Any]]:
    """Numbers of each interface whose two weights were measured.

    Parameters
    ----------
    interfaces : sequence of Composable
        For which `is_watched` is true.
    spectra : mapping of str to Spectrum
    matrices : mapping of str to Tensor

    Returns
    -------
    rows : list of dict
        Without numbers where a weight is zero.
    """
    rows = []
    for one in interfaces:
        (first,), (second,) = one.first, one.second
        if {first.name, second.name} <= spectra.keys():
            row = {"name": one.name, "kind": one.kind, "layer": one.layer, "space": one.space.name}
            row |= {"dim": one.space.dim, "symmetry": one.space.symmetry.value}
            pair = spectra[first.name], spectra[second.name]
            # Keys are multiplied with queries, and what they write is read.
            end = Side.WRITE if first.record.multiplied_with else Side.READ
            rows.append(row | _numbers(*pair, *one.matrices(matrices), end))
    return rows


def _numbers(first: Spectrum, second: Spectrum, writing: Tensor, reading: Tensor, end: Side) -> dict[str, Any]:
    rank = min(int((one.values > 0).sum()) for one in (first, second))
    norms = first.channel_norms(Side.WRITE), second.channel_norms(end)
    numbers: dict[str, Any] = {"rank": rank} | unit_imbalance(*(one.square() for one in norms))
    if not rank:
        return numbers
    pair = _leading(first.frame(Side.WRITE)[:, :rank], second.frame(end)[:, :rank], writing, reading)
    numbers |= {name: float(value) for name, value in measured([OF_INTERFACES], pair).items()}
    windows = pair.window_grams
    sizes = [torch.linalg.matrix_norm(gram) for gram in windows]
    return numbers | {
        "window_rho": float(WINDOW_RHO.measure(pair)),
        "window_contrast": float(WINDOW_CONTRAST.measure(pair)),
        "window_imbalance": float(torch.linalg.matrix_norm(windows[0] - windows[1]) / sum(sizes)),
    }


def _leading(first: Tensor, second: Tensor, writing: Tensor, reading: Tensor) -> LeadingDirections:
    """The leading directions beside each other; nulls that keep the norms of units are left to an analysis."""
    frames = torch.cat([first, second], dim=1)
    there, here = frames.to(writing.device), frames.to(reading.device)
    written, start = there.new_zeros(there.shape[1], writing.shape[1]), 0
    for block in row_blocks(writing):
        written += matrix_product(there[start : start + len(block)].mT, block)
        start += len(block)
    read = torch.cat([matrix_product(block, here) for block in row_blocks(reading)])
    rank = first.shape[1]
    unknown = first.new_full((rank,), torch.nan)
    products = first.mT @ second
    return LeadingDirections(
        kept=torch.tensor(rank, device=first.device),
        products=products,
        shared_leverages=unknown,
        mean_matched=unknown,
        grams=((written @ written.mT).cpu(), (read.mT @ read).cpu()),
        dim=len(first),
        right_angle=rounding(products),
    )


def unit_imbalance(first: Tensor, second: Tensor) -> dict[str, float]:
    r"""How far the squared norms of hidden units in two weights are from equal, and the same of unrelated units.

    .. math:: \lVert a - b \rVert / (\lVert a \rVert + \lVert b \rVert)

    Parameters
    ----------
    first, second : Tensor, shape=[d]
        Squared norms a and b of the units in what writes them and in what reads them.

    Returns
    -------
    numbers : dict
        ``unit_imbalance`` and ``unit_imbalance_null_rms``, its exact root mean square where the units of the second
        weight are permuted at random, both in [0, 1]; NaN where both weights are zero.

    Examples
    --------
    >>> unit_imbalance(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0]))["unit_imbalance"]
    0.7071067690849304
    """
    size = torch.linalg.vector_norm(first) + torch.linalg.vector_norm(second)
    unrelated = first.square().sum() + second.square().sum() - 2 * first.sum() * second.sum() / len(first)
    return {
        "unit_imbalance": float(torch.linalg.vector_norm(first - second) / size),
        "unit_imbalance_null_rms": float(unrelated.clamp(min=0).sqrt() / size),
    }
