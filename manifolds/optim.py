"""Optimisers of torch for parameters that are points of a Grassmannian or a flag manifold.

A parameter is a frame, or a batch of frames ``[..., n, k]``. Its gradient is turned into the Riemannian one, each
step follows a geodesic to another frame, and momentum is transported along it. A parameter group may have a
`manifold` of its own. Parameters of other kinds belong to an optimiser of torch beside this one; learning rate
schedulers of torch work on both.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from .checks import holds
from .flag import Flag


class _GeodesicOptimizer(torch.optim.Optimizer, ABC):
    """What a step has in common; a subclass says where to go and whether it remembers a `momentum`."""

    @abstractmethod
    def _velocity(self, gradient: Tensor, point: Tensor, group: dict[str, Any]) -> Tensor:
        """Tangent vector of the next step, from the Riemannian gradient and ``self.state[point]``."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of points, of the manifold that the group or the optimiser names; `ValueError` for other ones.

        What is no manifold is a `TypeError`.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if not isinstance(group["manifold"], Flag):
            raise TypeError(
                f"{type(self).__name__} expected a Flag or Grassmannian as manifold; got {group['manifold']!r}."
            )
        for point in group["params"]:
            group["manifold"].require_point(point.detach(), "a parameter")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient; return the loss if a closure computes it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            manifold: Flag = group["manifold"]
            for point in group["params"]:
                if point.grad is None:
                    continue
                if not holds(point.grad.isfinite()):
                    raise ValueError(
                        f"{type(self).__name__} expected finite gradients; the one of a parameter of shape "
                        f"{tuple(point.shape)} holds NaN or infinity."
                    )
                gradient = manifold.metric.riemannian_gradient(point.grad, point)
                velocity = manifold.to_tangent(self._velocity(gradient, point, group), point)
                end = manifold.metric.exp(velocity, point)
                state = self.state[point]
                if "momentum" in state:
                    # A sum of long vectors that cancel, and many transports, leave a part that is not tangent.
                    momentum = manifold.to_tangent(state["momentum"], point)
                    state["momentum"] = manifold.metric.parallel_transport(momentum, point, direction=velocity)
                point.copy_(end)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """State in tensors and numbers; manifolds are not part of it."""
        state = super().state_dict()
        for group in state["param_groups"]:
            del group["manifold"]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state into an optimiser of the same parameters, whose manifolds are kept."""
        kept = [group["manifold"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, manifold in zip(self.param_groups, kept, strict=True):
            group["manifold"] = manifold


class RiemannianSGD(_GeodesicOptimizer):
    r"""Gradient descent along geodesics, with momentum.

    .. math:: m \leftarrow \mu m + \mathrm{grad} f(P), \qquad P \leftarrow \exp_P(-\eta m)

    Parameters
    ----------
    params : iterable
        Points, or parameter groups of points.
    manifold : Flag
        Manifold of the points, a `Flag` or a `Grassmannian`; a group's own ``"manifold"`` goes before it.
    lr : float
        Step size :math:`\eta`.
    momentum : float
        Factor :math:`\mu` in [0, 1); 0 keeps nothing.

    References
    ----------
    .. [1] S. Bonnabel, Stochastic gradient descent on Riemannian manifolds, IEEE Trans. Autom. Control 58 (2013).

    Examples
    --------
    >>> import manifolds
    >>> lines = torch.tensor([[[1.0], [0.0]], [[0.6], [0.8]]], dtype=torch.float64)
    >>> point = lines[0].clone().requires_grad_()
    >>> space = manifolds.Grassmannian(2, 1)
    >>> optimizer = RiemannianSGD([point], space, lr=0.5)
    >>> space.metric.squared_dist(point, lines).mean().backward()
    >>> optimizer.step()
    >>> point.detach()
    tensor([[0.8944],
            [0.4472]], dtype=torch.float64)
    """

    def __init__(self, params: Iterable[Any], manifold: Flag, lr: float, momentum: float = 0.0) -> None:
        if lr < 0 or not 0 <= momentum < 1:
            raise ValueError(f"RiemannianSGD expected lr >= 0 and momentum in [0, 1); got {lr} and {momentum}.")
        super().__init__(params, {"manifold": manifold, "lr": lr, "momentum": momentum})

    def _velocity(self, gradient: Tensor, point: Tensor, group: dict[str, Any]) -> Tensor:
        if group["momentum"]:
            state = self.state[point]
            gradient = group["momentum"] * state.get("momentum", torch.zeros_like(gradient)) + gradient
            state["momentum"] = gradient
        return -group["lr"] * gradient


class RiemannianAdam(_GeodesicOptimizer):
    r"""Adam along geodesics: the step is scaled by a running mean of the gradient's squared length.

    There is one scale for each point, not for each entry, since entries depend on the frame. As with every Adam, steps
    keep the size of `lr` near a minimum: reach it with a scheduler that lets `lr` fall.

    Parameters
    ----------
    params : iterable
        Points, or parameter groups of points.
    manifold : Flag
        Manifold of the points, a `Flag` or a `Grassmannian`; a group's own ``"manifold"`` goes before it.
    lr : float
        Step size, about the length of a step in radians.
    betas : tuple of float
        Decay of the running means of the gradient and of its squared length, in [0, 1).
    eps : float
        Added to the root of the mean squared length.

    References
    ----------
    .. [1] G. Bécigneul and O.-E. Ganea, Riemannian adaptive optimization methods, ICLR (2019).

    Examples
    --------
    >>> import manifolds
    >>> lines = torch.tensor([[[1.0], [0.0]], [[0.6], [0.8]]], dtype=torch.float64)
    >>> point = lines[0].clone().requires_grad_()
    >>> space = manifolds.Grassmannian(2, 1)
    >>> optimizer = RiemannianAdam([point], space, lr=0.1)
    >>> space.metric.squared_dist(point, lines).mean().backward()
    >>> optimizer.step()
    >>> space.metric.dist(point.detach(), lines[0])
    tensor(0.1000, dtype=torch.float64)
    """

    def __init__(
        self,
        params: Iterable[Any],
        manifold: Flag,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if lr < 0 or not all(0 <= beta < 1 for beta in betas) or eps < 0:
            raise ValueError(
                f"RiemannianAdam expected lr >= 0, betas in [0, 1) and eps >= 0; got {lr}, {betas} and {eps}."
            )
        super().__init__(params, {"manifold": manifold, "lr": lr, "betas": betas, "eps": eps})

    def _velocity(self, gradient: Tensor, point: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[point]
        square = group["manifold"].metric.squared_norm(gradient, point)[..., None, None]
        if not state:
            state.update(step=0, momentum=torch.zeros_like(gradient), mean_square=torch.zeros_like(square))
        first, second = group["betas"]
        state["step"] += 1
        state["momentum"] = first * state["momentum"] + (1 - first) * gradient
        state["mean_square"] = second * state["mean_square"] + (1 - second) * square
        mean = state["momentum"] / (1 - first ** state["step"])
        scale = (state["mean_square"] / (1 - second ** state["step"])).sqrt() + group["eps"]
        return -group["lr"] * mean / scale
