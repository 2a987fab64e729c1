"""How fast and how accurate the manifolds are, against named rivals in the same run.

Run with ``python -m benchmarks.manifolds``: about two minutes. All times are CPU seconds of one thread, so that
the ratios mean the same on a busy machine. Results go to ``benchmarks/results/manifolds.json``.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import threadpoolctl
import torch

from manifolds import (
    Flag,
    Grassmannian,
    geodesic_distance,
    pairwise_geodesic_distance,
    pairwise_overlap,
    principal_angles,
    solve_flag_logarithm,
    uniform_frame,
)
from manifolds.backend import import_geomstats
from manifolds.checks import block_slices

from .whole_process import machine

RESULTS = Path(__file__).with_name("results") / "manifolds.json"


def main() -> None:
    """Print one line for each row of every table, and write them."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    with threadpoolctl.threadpool_limits(1):
        tables = {
            "Largest absolute error of angles and distances, n = 200": accuracy(),
            "Grassmannian against geomstats' projectors, k = 64": grassmannians(),
            "200 frames of 768 x 64, all 19,900 pairs": pairs(),
            "Logarithm of a flag against the iteration with n x n matrices": flag_logarithms(),
        }
    for title, rows in tables.items():
        print(title)
        for row in rows:
            print(
                "  "
                + ", ".join(
                    f"{name} {value if isinstance(value, str) else f'{value:.3g}'}" for name, value in row.items()
                )
            )
    RESULTS.write_text(json.dumps({"machine": machine(), "tables": tables}, indent=1, default=float) + "\n")


def seconds(function: Callable[..., Any], *arguments: Any, repeats: int = 5) -> float:
    """Least CPU time of a call, which a busy machine disturbs least; the first one, which may load something, aside."""
    function(*arguments)
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function(*arguments)
        times.append(time.process_time() - start)
    return min(times)


def planted_pair(n: int, angles: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two frames with these principal angles, rotated at random."""
    k, theta = len(angles), torch.tensor(angles)
    axes = uniform_frame(n, 2 * k)
    second = axes[:, :k] * theta.cos() + axes[:, k:] * theta.sin()
    return axes[:, :k] @ uniform_frame(k, k), second @ uniform_frame(k, k)


def accuracy() -> list[dict[str, Any]]:
    """Compare angles with scipy and with plain arccosines, and distances with geomstats."""
    projectors = import_geomstats("geomstats.geometry.grassmannian").Grassmannian
    rows = []
    for name, angles in {
        "1e-15 1e-12 1e-8 1e-4": [1e-15, 1e-12, 1e-8, 1e-4],
        "1e-15 1e-12 1e-8 1e-4 1": [1e-15, 1e-12, 1e-8, 1e-4, 1.0],
        "1e-8 1e-4 1 1 1 1": [1e-8, 1e-4, 1.0, 1.0, 1.0, 1.0],
        "1e-9 and five of 80 degrees": [1e-9] + 5 * [math.radians(80)],
        "pi/2": [math.pi / 2],
        "0.3 pi/2 pi/2": [0.3, math.pi / 2, math.pi / 2],
        "1e-15 1e-8 1 pi/2": [1e-15, 1e-8, 1.0, math.pi / 2],
    }.items():
        first, second = planted_pair(200, angles)
        true, length = np.array(angles), float(np.linalg.norm(angles))
        arccos = np.arccos(np.clip(scipy.linalg.svdvals((first.mT @ second).numpy()), 0, 1))
        scipys = scipy.linalg.subspace_angles(first.numpy(), second.numpy())[::-1]
        theirs = projectors(200, len(angles), equip=True).metric.dist(first @ first.mT, second @ second.mT)
        rows.append(
            {
                "true angles": name,
                "ours": np.abs(principal_angles(first, second).numpy() - true).max(),
                "scipy": np.abs(scipys - true).max(),
                "arccos": np.abs(arccos - true).max(),
                "our distance": abs(float(geodesic_distance(first, second)) - length),
                "geomstats distance / sqrt 2": abs(float(theirs) / math.sqrt(2) - length),
            }
        )
    return rows


def grassmannians() -> list[dict[str, Any]]:
    """Compare exponential, logarithm and distance with geomstats on one pair with angles up to 1."""
    projectors = import_geomstats("geomstats.geometry.grassmannian").Grassmannian
    rows, k = [], 64
    for n in (384, 768):
        ours, theirs = Grassmannian(n, k).metric, projectors(n, k).metric
        first, second = planted_pair(n, torch.linspace(0.01, 1, k).tolist())
        tangent = ours.log(second, first)
        base, end = first @ first.mT, second @ second.mT
        projector_tangent = tangent @ first.mT + first @ tangent.mT
        for name, mine, other in (
            ("exp", (ours.exp, tangent, first), (theirs.exp, projector_tangent, base)),
            ("log", (ours.log, second, first), (theirs.log, end, base)),
            ("dist", (ours.dist, first, second), (theirs.dist, base, end)),
        ):
            fast, slow = seconds(*mine, repeats=101), seconds(*other, repeats=3)
            rows.append({"n": str(n), "what": name, "ours s": fast, "geomstats s": slow, "times faster": slow / fast})
    return rows


def pairs() -> list[dict[str, Any]]:
    """Compare all overlaps with a loop and with the speed of one matrix product, all distances with a loop."""
    count, n, k = 200, 768, 64
    frames = list(uniform_frame(n, k, (count,)))
    arrays = [frame.numpy() for frame in frames]
    total = count * (count - 1) // 2
    square = torch.randn(2048, 2048)
    rate = 2 * 2048**3 / seconds(torch.mm, square, square)
    # Streamed projectors: half of the n x n entries of each projector, and their products for all pairs.
    limit = (count * n**2 * k + count**2 * n**2) / rate

    def overlap_loop() -> None:
        for i in range(count):
            for j in range(i):
                np.sum((arrays[i].T @ arrays[j]) ** 2)

    def distance_loop() -> None:
        for j in range(1, 31):
            np.linalg.norm(scipy.linalg.subspace_angles(arrays[0], arrays[j]))

    overlaps, loop = seconds(pairwise_overlap, frames, repeats=3), seconds(overlap_loop, repeats=3)
    distances = seconds(pairwise_geodesic_distance, frames, repeats=2)
    scipy_loop = seconds(distance_loop) * total / 30
    return [
        {"what": "overlaps", "rival": "numpy loop", "ours s": overlaps, "rival s": loop, "ratio": loop / overlaps},
        {
            "what": "overlaps",
            "rival": f"limit of the method at {rate / 1e9:.0f} GFLOP/s",
            "ours s": overlaps,
            "rival s": limit,
            "ratio": limit / overlaps,
        },
        {
            "what": "geodesic distances",
            "rival": "scipy loop, 30 pairs scaled",
            "ours s": distances,
            "rival s": scipy_loop,
            "ratio": scipy_loop / distances,
        },
    ]


def flag_logarithms() -> list[dict[str, Any]]:
    """Compare with the published fixed-point iteration on n x n matrices, on planted vectors of length pi / 2."""
    rows = []
    for n, dims in ((20, (1, 2, 3)), (100, (1, 3, 5, 20)), (768, (16, 32, 48, 64))):
        flags = Flag(n, dims)
        base = flags.random_point()
        tangent = flags.metric.random_unit_tangent_vec(base) * math.pi / 2
        reached = flags.metric.exp(tangent, base)
        turns = [uniform_frame(block.stop - block.start, block.stop - block.start) for block in block_slices(dims)]
        end = torch.cat(
            [reached[:, block] @ turn for block, turn in zip(block_slices(dims), turns, strict=True)], dim=1
        )
        solved = solve_flag_logarithm(end, base, dims)
        fast = seconds(solve_flag_logarithm, end, base, dims)
        start = time.process_time()
        length, steps = fixed_point_logarithm(end.numpy(), base.numpy(), dims)
        slow = time.process_time() - start
        rows.append(
            {
                "flag": f"{dims} in {n}",
                "our steps": str(int(solved.newton_steps)),
                "our error": abs(float(solved.length) - math.pi / 2),
                "rival steps": str(steps),
                "rival error": abs(length - math.pi / 2),
                "ours s": fast,
                "rival s": slow,
                "times faster": slow / fast,
            }
        )
    return rows


def fixed_point_logarithm(point: np.ndarray, base_point: np.ndarray, dims: tuple[int, ...]) -> tuple[float, int]:
    """Length of the geodesic by alternating an n x n logarithm with block-wise alignment, to a residual of 1e-9.

    The algorithm of Szwagier and Pennec (GSI 2023), written from its description; at most 50 steps.
    """
    n, k = point.shape
    blocks = [*block_slices(dims), slice(k, n)]
    base = np.hstack([base_point, scipy.linalg.null_space(base_point.T)])
    rotation = base.T @ np.hstack([point, scipy.linalg.null_space(point.T)])
    target = np.eye(n)
    for step in range(1, 51):  # noqa: B007  # returned
        for block in blocks:
            rotation[:, block] = rotation[:, block] @ scipy.linalg.polar(rotation[:, block].T @ target[:, block])[0]
        if np.linalg.det(rotation) < 0:
            rotation[:, -1] *= -1
        horizontal = scipy.linalg.logm(rotation).real
        residual = math.sqrt(sum(np.linalg.norm(horizontal[block, block]) ** 2 for block in blocks))
        for block in blocks:
            horizontal[block, block] = 0
        if residual < 1e-9:
            break
        target = scipy.linalg.expm(horizontal)
    return float(np.linalg.norm(horizontal)) / math.sqrt(2), step


if __name__ == "__main__":
    main()
