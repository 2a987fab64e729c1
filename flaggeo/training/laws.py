r"""What theory says of training with ridge, beside what happened: imbalance, containment, stationarity.

Weights W_1 (d x n) and W_2 (p x d) of an interface, with any leading axes. The ridge is
:math:`\tfrac{\lambda}{2} |W|^2`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .models import Chain, Parameters
from .tasks import Task


def imbalance(first: Tensor, second: Tensor) -> Tensor:
    r"""Difference of the hidden Gram matrices, :math:`\Delta = W_1 W_1^\top - W_2^\top W_2`, shape=[..., d, d].

    Between linear layers ridge makes it decay as :math:`e^{-2\lambda t}`, and by :math:`(1 - \eta\lambda)^2` a step;
    see `balance_law` and `balance_step` of docs/proofs.md.
    """
    return first @ first.mT - second.mT @ second


def outside(first: Tensor, second: Tensor) -> Tensor:
    r"""Norm of the part of W_1 outside the row space of W_2, :math:`|(I - P) W_1|`, shape=[...].

    Between linear layers it is at most :math:`e^{-\lambda t}` times a constant; see `containment` of docs/proofs.md.
    W_2 has to have full row rank. NaN where it reads the whole space, which nothing lies outside of.
    """
    if second.shape[-2] >= second.shape[-1]:
        return first.new_full(first.shape[:-2], torch.nan)
    frame = torch.linalg.qr(second.mT).Q
    rest: Tensor = torch.linalg.matrix_norm(first - frame @ (frame.mT @ first))
    return rest


def decay_rate(steps: Sequence[float], sizes: Tensor) -> Tensor:
    """Rate r a step at which sizes fall as exp(-r step), by least squares of their logarithms.

    Parameters
    ----------
    steps : sequence of float, length T
    sizes : Tensor, shape=[T, ...]
        Positive.

    Returns
    -------
    rate : Tensor, shape=[...]

    Examples
    --------
    >>> decay_rate([0, 10, 20], torch.tensor([1.0, 0.5, 0.25])) * 10  # log 2
    tensor(0.6931)
    """
    times = torch.tensor(steps, dtype=sizes.dtype, device=sizes.device)
    times = times - times.mean()
    slope: Tensor = torch.tensordot(times, sizes.log(), dims=1) / times.square().sum()
    return -slope


@dataclass(frozen=True)
class Obstruction:
    r"""What the activation adds to the law of the imbalance at one interface.

    .. math:: \dot\Delta = -2\lambda\Delta + \mathbb{E}[[D, K]] + \mathbb{E}[e b^\top + b e^\top]

    Attributes
    ----------
    commutator : Tensor, shape=[runs, d, d]
        :math:`\mathbb{E}[[D, K]]` with the gates :math:`D = \mathrm{diag}\,\sigma'(a)` and
        :math:`K = a b^\top - b a^\top`.
    remainder : Tensor, shape=[runs, d, d]
        :math:`\mathbb{E}[e b^\top + b e^\top]` with :math:`e = \sigma(a) - \sigma'(a) a`: zero where the activation is
        positively homogeneous.
    """

    commutator: Tensor
    remainder: Tensor

    @property
    def whole(self) -> Tensor:
        """Both together."""
        return self.commutator + self.remainder


def obstructions(model: Chain, parameters: Parameters, task: Task) -> list[Obstruction]:
    r"""What the activation adds at every interface of a chain, over all samples of a task.

    With a the input of the activation and b the gradient of the loss at its output, for each sample. At a stationary
    point of the loss with ridge λ the imbalance is the obstruction over 2λ, whatever the loss; see `gate_law`,
    `smooth_gate_law` and `stationary_imbalance` of docs/proofs.md.

    Parameters
    ----------
    model : Chain
    parameters : mapping of str to Tensor
    task : Task
        With the dtype and device of the parameters.

    Returns
    -------
    obstructions : list of Obstruction
        One for each hidden layer, in order.

    References
    ----------
    docs/proofs.md, "Commutator"; arXiv:2605.09861, abstract.
    """
    with torch.enable_grad():
        outputs, hidden = model.traced(_differentiable(parameters), task.inputs)
        loss = task.loss(outputs, task.targets).sum()
        slopes = torch.autograd.grad(loss, [after for _, after in hidden])
    return [_obstruction(model, before.detach(), slope) for (before, _), slope in zip(hidden, slopes, strict=True)]


def _differentiable(parameters: Parameters) -> dict[str, Tensor]:
    return {name: weight.detach().requires_grad_() for name, weight in parameters.items()}


def _obstruction(model: Chain, a: Tensor, b: Tensor) -> Obstruction:
    """From a and b of all samples, shape=[runs, N, d]; the mean over the samples is in b already."""
    with torch.enable_grad():
        a = a.requires_grad_()
        after = model.sigma(a)
        (gates,) = torch.autograd.grad(after.sum(), a)
    a, after = a.detach(), after.detach()
    # [D, K] sums (D_i - D_j)(a_i b_j - b_i a_j): four products of one matrix each with itself transposed.
    gated = (gates * a).mT @ b - (gates * b).mT @ a
    error = (after - gates * a).mT @ b
    return Obstruction(gated + gated.mT, error + error.mT)


def ridge_gradient_norm(model: Chain, parameters: Parameters, task: Task, ridge: float) -> Tensor:
    """Norm of the gradient of the loss with ridge over all parameters, shape=[runs]: how stationary a point is."""
    with torch.enable_grad():
        weights = _differentiable(parameters)
        loss = task.loss(model(weights, task.inputs), task.targets).sum()
        gradients = torch.autograd.grad(loss, list(weights.values()))
    squares = [
        (gradient + ridge * weight.detach()).square().sum(dim=(-2, -1))
        for gradient, weight in zip(gradients, weights.values(), strict=True)
    ]
    return torch.stack(squares).sum(dim=0).sqrt()
