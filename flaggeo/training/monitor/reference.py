"""Where leading subspaces were at an earlier step, from which drift is measured, in memory and on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...network import Side, Weight
from ...numerics.spectrum import Spectrum
from ...results.storage import ResultError, replace_file


@dataclass(frozen=True)
class Moment:
    """The leading subspaces of a weight at a step.

    Attributes
    ----------
    step : int
    read, write : Tensor, shape=[source.dim, r], [target.dim, r]
        Orthonormal frames: the directions of non-zero singular value.
    undetermined : bool
        Whether the first direction is free to rotate, see `Spectrum`.
    """

    step: int
    read: Tensor
    write: Tensor
    undetermined: bool

    def frame(self, side: Side) -> Tensor:
        """Frame of what the weight reads or writes."""
        return self.read if side is Side.READ else self.write


def moment_of(spectrum: Spectrum, step: int) -> Moment:
    """What drift needs of the directions that a weight has at a step."""
    return Moment(step, spectrum.frame(Side.READ), spectrum.frame(Side.WRITE), bool(spectrum.undetermined[0]))


def save_moments(file: Path, moments: Mapping[str, Moment]) -> None:
    """Write the moments of some weights, by their names, at once or not at all."""
    tensors: dict[str, Tensor] = {}
    for name, one in moments.items():
        tensors |= {f"{name}.read": one.read.contiguous(), f"{name}.write": one.write.contiguous()}
        tensors[f"{name}.origin"] = torch.tensor([one.step, int(one.undetermined)])
    replace_file(file, save(tensors))


def load_moments(file: Path, weights: Sequence[Weight]) -> dict[str, Moment]:
    """Read back what `save_moments` wrote of these weights; those that were not there then are missing.

    Without the file there are none: no reference step was reached.

    Raises
    ------
    ResultError
        If the file is damaged, or a tensor has another shape than the directions of its weight.
    """
    moments: dict[str, Moment] = {}
    if not file.exists():
        return moments
    try:
        with safe_open(file, framework="pt") as tensors:
            names = set(tensors.keys())
            for weight in weights:
                if f"{weight.name}.origin" in names:
                    step, undetermined = tensors.get_tensor(f"{weight.name}.origin").tolist()
                    read, write = (_frame(tensors, weight, side) for side in (Side.READ, Side.WRITE))
                    moments[weight.name] = Moment(step, read, write, bool(undetermined))
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ResultError(f"{file}: cannot read the leading directions of the reference step: {reason}") from error
    return moments


def _frame(tensors: Any, weight: Weight, side: Side) -> Tensor:
    name, dim = f"{weight.name}.{side.value}", weight.space(side).dim
    found = tensors.get_slice(name).get_shape()
    if len(found) != 2 or found[0] != dim or found[1] > weight.smaller_side:
        raise ValueError(f"expected {name} to have at most {weight.smaller_side} columns of {dim}, found shape {found}")
    frame: Tensor = tensors.get_tensor(name)
    return frame
