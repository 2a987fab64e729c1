"""Changes of basis between two weights: which numbers survive them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from manifolds import intersection_dimension, orthonormalize

from ...training.seeds import generator
from ..experiment import Experiment, Numbers, Progress

_NUMBERS = {
    "image_kernel_change": "change of the dimension in which the image of W_1 meets the kernel of W_2",
    "image_rows_change": "change of the dimension in which the image of W_1 meets the row space of W_2",
}


@dataclass(frozen=True)
class ReparameterizationExperiment(Experiment):
    """Two weights of rank 3 at a hidden space of dimension 6 with planted intersections, and a map of that space.

    Attributes
    ----------
    rotation : bool
        Whether the map is orthogonal; otherwise it is a Gaussian one.
    """

    rotation: bool

    @property
    def numbers(self) -> Mapping[str, str]:
        """Of dimensions before and after."""
        return _NUMBERS

    def run(self, *, device: str, progress: Progress) -> Numbers:  # noqa: ARG002, six dimensions need neither
        """Plant, move and count."""
        changes = zip(*map(self._changes, self.seeds), strict=True)
        return {name: tuple(map(float, of_seeds)) for name, of_seeds in zip(_NUMBERS, changes, strict=True)}

    def _changes(self, seed: int) -> list[int]:
        """Of the image with the kernel, and of the image with the row space."""
        gaussian = partial(torch.randn, (6, 6), generator=generator(seed, "weights"), dtype=torch.float64)
        axes, moved = orthonormalize(gaussian()), gaussian()
        if self.rotation:
            moved = orthonormalize(moved)
        image, rows, kernel = axes[:, [0, 1, 2]], axes[:, [0, 1, 3]], axes[:, [2, 4, 5]]
        dual = torch.linalg.inv(moved).mT
        changes = []
        for other, moved_other in ((kernel, moved @ kernel), (rows, dual @ rows)):
            after = intersection_dimension(orthonormalize(moved @ image), orthonormalize(moved_other))
            changes.append(int(after.dimension - intersection_dimension(image, other).dimension))
        return changes
