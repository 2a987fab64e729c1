"""The descent of the square norm along the orbit of two weights: whether a balanced pair is reached, and how."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from ...training.laws import decay_rate, imbalance
from ...training.seeds import generator
from ..experiment import Experiment, Numbers, Progress

_NUMBERS = {
    "excess": "square norm at the end over its infimum, minus 1",
    "exponent": "exponent of the power of time with which that excess falls, over the last decade",
    "degeneration": "condition number of the change of basis at the end",
    "overlap": "smallest cosine between the image of W_1 and the row space of W_2 at the end",
}
# Step of the descent, and the size below which an excess is rounding.
_STEP, _ROUNDING = 0.02, 1e-15


@dataclass(frozen=True)
class DescentExperiment(Experiment):
    r"""Two weights of rank 3, 4 x 3 and 5 x 4, moved along their orbit by the steepest descent of their square norm.

    A step is the change of basis :math:`g = e^{-\eta\Delta}`, which leaves the product as it is.

    Attributes
    ----------
    polystable : bool
        Whether the image of W_1 and the kernel of W_2 are complementary; otherwise they meet in a line.
    steps : int
    """

    polystable: bool
    steps: int = 20_000

    @property
    def numbers(self) -> Mapping[str, str]:
        """Of the pair and of the change of basis."""
        return _NUMBERS

    def run(self, *, device: str, progress: Progress) -> Numbers:  # noqa: ARG002, four dimensions need neither
        """Plant the pairs of all seeds and let them descend."""
        first, second = (torch.stack(weights) for weights in zip(*map(self._planted, self.seeds), strict=True))
        infimum = 2 * torch.linalg.svdvals(second @ first).sum(dim=-1)
        basis = torch.eye(4, dtype=torch.float64).expand(len(self.seeds), 4, 4)
        recorded, excesses = [self.steps // 10 * (place + 1) for place in range(10)], []
        for step in range(1, self.steps + 1):
            change = torch.linalg.matrix_exp(-_STEP * imbalance(first, second))
            first, basis = change @ first, change @ basis
            second = torch.linalg.solve(change, second, left=False)
            if step in recorded:
                excesses.append((_square_norm(first) + _square_norm(second)) / infimum - 1)
        # An exponent of a power is a rate in the logarithm of time.
        times = [log(step) for step in recorded]
        return {
            "excess": tuple(excesses[-1].tolist()),
            "exponent": tuple((-decay_rate(times, torch.stack(excesses).clamp(min=_ROUNDING))).tolist()),
            "degeneration": tuple(torch.linalg.cond(basis).tolist()),
            "overlap": tuple(_cosines(first, second)[..., -1].tolist()),
        }

    def _planted(self, seed: int) -> tuple[Tensor, Tensor]:
        """In a random basis the image of W_1 has the first three axes, and the kernel of W_2 the last or the first."""
        stream = generator(seed, "weights")

        def gaussian(rows: int, columns: int) -> Tensor:
            return torch.randn((rows, columns), generator=stream, dtype=torch.float64)

        axes = torch.eye(4, dtype=torch.float64) + gaussian(4, 4) / 4
        dual = torch.linalg.inv(axes)
        read = dual[:3] if self.polystable else dual[1:]
        return axes[:, :3] @ gaussian(3, 3), gaussian(5, 3) @ read


def _square_norm(matrix: Tensor) -> Tensor:
    return matrix.square().sum(dim=(-2, -1))


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    """Of the principal angles between the image of the first and the row space of the second, both of dimension 3."""
    written, read = torch.linalg.svd(first).U[..., :3], torch.linalg.svd(second).Vh[..., :3, :]
    cosines: Tensor = torch.linalg.svdvals(read @ written)
    return cosines
