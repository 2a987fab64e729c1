"""Geodesics of Grassmannians and flag manifolds on n x k frames: exponential, transport, retractions.

A flag is an orthonormal frame P whose columns come in blocks; P and P diag(O_1, ..., O_r) with orthogonal O_i
are the same flag. A tangent vector is horizontal, D = P A + K, with A skew and zero in the diagonal
blocks and P' K = 0; the metric is <D, D> = tr A'A / 2 + tr K'K. Nothing here forms an n x n matrix.

The functions trust their arguments; `Flag` and `Grassmannian` check them.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .checks import block_slices, holds, largest
from .derivatives import evaluate, nearest_frame

# Beyond this length the Taylor series of the transport is summed in several steps.
_TRANSPORT_STEP = math.pi
_TRANSPORT_TERMS = 40


def same_block(dims: Sequence[int], device: torch.device) -> Tensor:
    """Mask of the diagonal blocks: bool, shape=[k, k]."""
    blocks = block_slices(tuple(dims))
    labels = torch.tensor([i for i, block in enumerate(blocks) for _ in range(block.start, block.stop)], device=device)
    return labels[:, None] == labels


def off_blocks(matrix: Tensor, dims: Sequence[int]) -> Tensor:
    """Copy of a k x k matrix with zeros in the diagonal blocks."""
    return matrix.masked_fill(same_block(dims, matrix.device), 0)


def skew(matrix: Tensor) -> Tensor:
    """Skew-symmetric part."""
    return (matrix - matrix.mT) / 2


def split(vector: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    """In-plane part ``P' V`` (k x k) and normal part ``V - P P' V`` (n x k) of an ambient vector."""
    inside = point.mT @ vector
    return inside, vector - point @ inside


def tangent_part(vector: Tensor, point: Tensor, dims: Sequence[int]) -> Tensor:
    """Orthogonal projection of an ambient vector onto the tangent space of a flag manifold at a point."""
    # The first projection leaves rounding errors of the vector's size, which may be far above that of its projection.
    for _ in range(2):
        inside = point.mT @ vector
        vector = vector - point @ (inside - off_blocks(skew(inside), dims))
    return vector


def refine(frame: Tensor) -> Tensor:
    """One Newton-Schulz step towards the nearest frame: squares the distance from orthonormality."""
    return 1.5 * frame - 0.5 * (frame @ (frame.mT @ frame))


def exponential(tangent_vec: Tensor, base_point: Tensor) -> Tensor:
    """Exponential map of a flag manifold for vectors of any length, differentiable as `smooth_exponential` is."""
    return evaluate(_skew_exponential, smooth_exponential, *_whole(tangent_vec, base_point))


def grassmannian_exponential(tangent_vec: Tensor, base_point: Tensor) -> Tensor:
    """`exponential` for one block, several times faster."""
    return evaluate(_exponential_by_angles, smooth_exponential, *_whole(tangent_vec, base_point))


def _whole(*tensors: Tensor) -> tuple[Tensor, ...]:
    batch = np.broadcast_shapes(*(tensor.shape[:-2] for tensor in tensors))
    return tuple(tensor.expand(*batch, *tensor.shape[-2:]) for tensor in tensors)


def _skew_exponential(tangent_vec: Tensor, base_point: Tensor) -> Tensor:
    """Exponential by the rotation of span(P, K). The last step keeps long chains of exponentials orthonormal."""
    basis, rotation = _rotation(tangent_vec, base_point)
    return refine(basis @ (rotation @ (basis.mT @ base_point)))


def _rotation(tangent_vec: Tensor, base_point: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal basis of span(P, K), and ``exp(Omega)`` in it for the lift Omega of the tangent vector to so(n).

    Omega is a skew matrix of size 2k there. Its eigenvalues are exactly imaginary, so that a long vector does not leave
    the manifold.
    """
    basis = torch.linalg.qr(torch.cat([base_point, tangent_vec], dim=-1)).Q
    # In double precision, since what rounding does to a phase grows with the length.
    frame, vector = ((basis.mT @ matrix).double() for matrix in (base_point, tangent_vec))
    inside = skew(frame.mT @ vector)
    lift = (vector - frame @ (frame.mT @ vector - inside / 2)) @ frame.mT
    phases, vectors = torch.linalg.eigh(1j * (lift - lift.mT))
    rotation = ((vectors * torch.exp(-1j * phases)[..., None, :]) @ vectors.mH).real
    return basis, refine(refine(rotation)).to(basis.dtype)


def _exponential_by_angles(tangent_vec: Tensor, base_point: Tensor) -> Tensor:
    """Exponential for one block. The last step keeps long chains of exponentials orthonormal."""
    left, sine, versine, right = _plane_rotations(tangent_vec, base_point)
    return refine(base_point + (left * sine - base_point @ right * versine) @ right.mT)


def _plane_rotations(tangent_vec: Tensor, base_point: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rotations that one block is turned by: with ``D = U S V'``, U, sin S, 1 - cos S, and V."""
    k = base_point.shape[-1]
    # Householder vectors are orthogonal to P whatever the rank of the tangent vector.
    basis = torch.linalg.qr(torch.cat([base_point, tangent_vec], dim=-1)).Q[..., k:]
    left, angles, right = torch.linalg.svd(basis.mT @ tangent_vec, full_matrices=False)
    angles = angles[..., None, :]
    return basis @ left, torch.sin(angles), 2 * torch.sin(angles / 2).square(), right.mT


def smooth_exponential(tangent_vec: Tensor, base_point: Tensor) -> Tensor:
    """Exponential map of a flag manifold, without a decomposition. Differentiable everywhere, also at 0.

    With Omega the lift of the tangent vector to so(n), span(P, K) is invariant under Omega, so that one 2k x 2k matrix
    exponential suffices. That matrix is not skew: rounding makes eigenvalues real that are imaginary.
    """
    _require_derivatives(tangent_vec)
    k = base_point.shape[-1]
    inside, normal = split(tangent_vec, base_point)
    # Balances the two off-diagonal blocks; the result does not depend on it, hence no gradient through it.
    scale = (torch.linalg.matrix_norm(normal, keepdim=True) / math.sqrt(k)).clamp(min=1e-8).detach()
    direction = normal / scale
    gram = scale * (direction.mT @ direction)
    identity = torch.eye(k, dtype=gram.dtype, device=gram.device)
    top = torch.cat([skew(inside), -gram], dim=-1)
    bottom = torch.cat([scale * identity, torch.zeros_like(gram)], dim=-1)
    columns = torch.linalg.matrix_exp(torch.cat([top, bottom], dim=-2))[..., :k]
    return refine(base_point @ columns[..., :k, :] + direction @ columns[..., k:, :])


def _require_derivatives(tangent_vec: Tensor) -> None:
    """Raise where a matrix exponential that is skew but for rounding has not a third of its digits left."""
    norm, limit = torch.linalg.matrix_norm(tangent_vec.detach()), torch.finfo(tangent_vec.dtype).eps ** -0.5 / 32
    if not holds(norm <= limit):
        raise ArithmeticError(
            f"the exponential has accurate derivatives in {tangent_vec.dtype} up to a norm of {limit:.1e}; "
            f"got a tangent vector of norm {largest(norm):.1e}."
        )


def grassmannian_angles(point: Tensor, base_point: Tensor) -> Tensor:
    """Principal angles for a distance: one k x k singular value decomposition.

    Angles below 1e-7 are mixed with each other, which conserves the sum of their squares; `principal_angles`
    separates them at a higher price.
    """
    return _aligned_residual(point, base_point)[0]


def grassmannian_logarithm(point: Tensor, base_point: Tensor) -> Tensor:
    """Logarithm of the Grassmannian, also at the cut locus, where it is one of several.

    Bendokat, Zimmermann and Absil's extended logarithm with the arcsine replaced by atan2.
    """
    angles, sines, normal, left = _aligned_residual(point, base_point)
    vanishing = sines == 0
    factors = torch.where(vanishing, 1, angles / torch.where(vanishing, 1, sines))
    return (normal * factors[..., None, :]) @ left.mT


def _aligned_residual(point: Tensor, base_point: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Angles, their sines, the residual of the aligned end frame, and the basis it is aligned to."""
    left, cosines, right = torch.linalg.svd(base_point.mT @ point)
    # In aligned frames the first projection is known; the second one removes its rounding errors.
    normal = point @ right.mT - base_point @ (left * cosines[..., None, :])
    normal = normal - base_point @ (base_point.mT @ normal)
    sines = torch.linalg.vector_norm(normal, dim=-2)
    return torch.atan2(sines, cosines), sines, normal, left


def polar_retraction(tangent_vec: Tensor, base_point: Tensor) -> Tensor:
    """Polar factor of ``P + D``; another representative of the base point gives the same one of the result."""

    def value(matrix: Tensor, tangent_vec: Tensor) -> Tensor:
        # (P + D)'(P + D) = I + D'D for a horizontal D, well-conditioned and quicker to decompose.
        identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        squares, vectors = torch.linalg.eigh(identity + tangent_vec.mT @ tangent_vec)
        return matrix @ ((vectors * squares.rsqrt()[..., None, :]) @ vectors.mT)

    matrix = base_point + tangent_vec
    return evaluate(value, lambda matrix, _: nearest_frame(matrix), matrix, tangent_vec.expand_as(matrix))


def qr_retraction(tangent_vec: Tensor, base_point: Tensor) -> Tensor:
    """Q factor of ``P + D`` with a positive diagonal of R."""
    factor, triangle = torch.linalg.qr(base_point + tangent_vec)
    return factor * triangle.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]


def parallel_transport(tangent_vec: Tensor, base_point: Tensor, direction: Tensor, dims: Sequence[int]) -> Tensor:
    """Parallel transport along ``t -> exponential(t * direction)``, t from 0 to 1.

    In a frame that moves with the geodesic the transported vector of one block stays as it is. That of several blocks
    takes time proportional to the length.
    """
    if len(dims) == 1:
        return evaluate(_push_forward_by_angles, _smooth_push_forward, *_whole(tangent_vec, base_point, direction))
    vector = _in_moving_frame(tangent_vec, base_point, direction, dims)
    return evaluate(_push_forward, _smooth_push_forward, *_whole(vector, base_point, direction))


def _in_moving_frame(tangent_vec: Tensor, base_point: Tensor, direction: Tensor, dims: Sequence[int]) -> Tensor:
    """Transported vector before it is pushed forward to the end of the geodesic.

    It obeys the linear equation a' = -Off([A, a] - K'c + c'K) / 2, c' = -(K a - c A) / 2. With c = c_0 X + K Y it
    becomes one for the k x k matrices (a, X, Y), whose Taylor series is summed.
    """
    k = base_point.shape[-1]
    rotation, normal = split(direction, base_point)
    rotation = skew(rotation)
    inside, initial = split(tangent_vec, base_point)
    blocks = same_block(dims, base_point.device)
    gram, cross = normal.mT @ normal, normal.mT @ initial

    def derivative(inside: Tensor, along_initial: Tensor, along_normal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        overlap = cross @ along_initial + gram @ along_normal
        bracket = rotation @ inside - inside @ rotation - overlap + overlap.mT
        return (
            -0.5 * bracket.masked_fill(blocks, 0),
            0.5 * (along_initial @ rotation),
            0.5 * (along_normal @ rotation - inside),
        )

    inside = skew(inside).expand_as(cross)
    along_initial = torch.eye(k, dtype=cross.dtype, device=cross.device).expand_as(cross)
    state = (inside, along_initial, torch.zeros_like(cross))
    steps = max(1, math.ceil(largest(torch.linalg.matrix_norm(direction)) / _TRANSPORT_STEP))
    for _ in range(steps):
        term = state
        for order in range(1, _TRANSPORT_TERMS + 1):
            term = tuple(part / (steps * order) for part in derivative(*term))  # type: ignore[assignment]
            state = tuple(whole + part for whole, part in zip(state, term, strict=True))  # type: ignore[assignment]
    inside, along_initial, along_normal = state
    return base_point @ inside + initial @ along_initial + normal @ along_normal


def _push_forward(vector: Tensor, base_point: Tensor, direction: Tensor) -> Tensor:
    """``exp(Omega) V`` for the lift Omega of the direction, which vanishes outside span(P, K)."""
    basis, rotation = _rotation(direction, base_point)
    inside = basis.mT @ vector
    return vector + basis @ (rotation @ inside - inside)


def _push_forward_by_angles(vector: Tensor, base_point: Tensor, direction: Tensor) -> Tensor:
    """`_push_forward` of a tangent vector for one block; with the same roundings as `_exponential_by_angles`."""
    left, sine, versine, right = _plane_rotations(direction, base_point)
    return vector - (base_point @ right * sine + left * versine) @ (left.mT @ vector)


def _smooth_push_forward(vector: Tensor, base_point: Tensor, direction: Tensor) -> Tensor:
    """`_push_forward` without a decomposition: span(P, K, c) is invariant under Omega, with c the normal part of V."""
    _require_derivatives(direction)
    k = base_point.shape[-1]
    rotation, normal = split(direction, base_point)
    inside, moved = split(vector, base_point)
    gram = normal.mT @ normal
    zeros, identity = torch.zeros_like(gram), torch.eye(k, dtype=gram.dtype, device=gram.device).expand_as(gram)
    generator = torch.cat(
        [
            torch.cat([skew(rotation), -gram, -(normal.mT @ moved)], dim=-1),
            torch.cat([identity, zeros, zeros], dim=-1),
            torch.cat([zeros, zeros, zeros], dim=-1),
        ],
        dim=-2,
    )
    flow = torch.linalg.matrix_exp(generator)
    weights = flow[..., :k] @ inside + flow[..., 2 * k :]
    return base_point @ weights[..., :k, :] + normal @ weights[..., k : 2 * k, :] + moved @ weights[..., 2 * k :, :]


def change_representative(tangent_vec: Tensor, source: Tensor, target: Tensor, dims: Sequence[int]) -> Tensor:
    """Express a tangent vector at one frame of a flag at another frame of the same flag.

    Two frames that a logarithm joins stand for the same flag only to the tolerance of its search, which is coarser than
    the one for tangent vectors, hence the projection. It shortens the vector by the square of that error.
    """
    moved = [
        tangent_vec[..., block] @ nearest_frame(source[..., block].mT @ target[..., block])
        for block in block_slices(tuple(dims))
    ]
    return tangent_part(torch.cat(moved, dim=-1), target, dims)
