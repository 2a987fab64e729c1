"""Neural Collapse: how far the last features of a classifier have come together, class by class."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Collapse:
    """The four numbers of Neural Collapse, each shape=[runs], dimensionless, and 0 where the collapse is complete.

    Attributes
    ----------
    spread : Tensor
        NC1: spread within the classes over that between them, mean over the directions between the classes.
    unequal_norms, unequal_angles : Tensor
        NC2: standard deviation of the norms of the centred class means over their mean, and mean distance of their
        cosines from those of a simplex.
    classifier : Tensor
        NC3: distance of the classifier from the centred class means, both of norm 1; at most 2.
    other_class : Tensor
        NC4: share of the samples that the classifier puts into another class than that of the nearest mean.
    """

    spread: Tensor
    unequal_norms: Tensor
    unequal_angles: Tensor
    classifier: Tensor
    other_class: Tensor


def collapse(features: Tensor, targets: Tensor, classifier: Tensor) -> Collapse:
    r"""Neural Collapse of features and the linear classifier that reads them.

    With the centred class means :math:`M \in \mathbb{R}^{d \times C}`, their singular values s and left singular
    vectors u, and the covariance :math:`\Sigma_W` within the classes, NC1 is
    :math:`\operatorname{tr}(\Sigma_W \Sigma_B^+) / C = \sum_{i<C} u_i^\top \Sigma_W u_i / s_i^2`.

    Parameters
    ----------
    features : Tensor, shape=[runs, N, d]
        The same number of samples of every class, and d at least C - 1.
    targets : Tensor, shape=[runs, N]
        Classes from 0 to C - 1.
    classifier : Tensor, shape=[runs, C, d]
        Weight without a bias.

    Returns
    -------
    collapse : Collapse

    References
    ----------
    V. Papyan, X. Y. Han and D. L. Donoho, PNAS 117 (2020), arXiv:2008.08186.

    Examples
    --------
    Two classes at their means, and a classifier along them:

    >>> features = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    >>> found = collapse(features, torch.tensor([[0, 1]]), features)
    >>> found.spread, found.classifier
    (tensor([0.]), tensor([0.]))
    """
    classes = classifier.shape[-2]
    members = torch.nn.functional.one_hot(targets, classes).to(features.dtype)
    means = members.mT @ features / members.sum(dim=-2)[..., None]
    within = features - members @ means
    centred = means - means.mean(dim=-2, keepdim=True)
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    between, directions = values[..., : classes - 1].square(), directions[..., : classes - 1, :]
    spread = (within @ directions.mT).square().mean(dim=-2) / between
    norms = torch.linalg.vector_norm(centred, dim=-1)
    cosines = centred @ centred.mT / (norms[..., :, None] * norms[..., None, :])
    others = ~torch.eye(classes, dtype=torch.bool, device=features.device)
    nearest = torch.cdist(features, means).argmin(dim=-1)
    return Collapse(
        spread.sum(dim=-1),
        norms.std(dim=-1, correction=0) / norms.mean(dim=-1),
        (cosines[..., others] + 1 / (classes - 1)).abs().mean(dim=-1),
        torch.linalg.matrix_norm(_of_norm_one(classifier) - _of_norm_one(centred)),
        ((features @ classifier.mT).argmax(dim=-1) != nearest).to(features.dtype).mean(dim=-1),
    )


def _of_norm_one(matrix: Tensor) -> Tensor:
    scaled: Tensor = matrix / torch.linalg.matrix_norm(matrix, keepdim=True)
    return scaled
