import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

from flaggeo.alignment.chance.sign_flip import leverages
from flaggeo.graph.bottlenecks import bottleneck_table
from flaggeo.graph.edges import NULL_MEANS, node_table, possible_pairs
from manifolds import overlap_moments, projection_overlap
from tests.builders import random_frame
from tests.flaggeo.graph.builders import toy


def measured(frames, heads=None, *, layers=None, sign_flips=False, norm_matched=np.nan):
    """Table of the readings with these frames, all in one space."""
    graph, dimension = nx.MultiDiGraph(), frames[0].shape[0]
    for number, frame in enumerate(frames):
        head = -1 if heads is None else heads[number]
        layer = number if layers is None else layers[number]
        graph.add_node(f"{number}.read", weight=f"{number}", side="read", role="q", layer=layer, head=head)
        graph.nodes[f"{number}.read"].update(space="stream", dimension=dimension, rank=frame.shape[1])
    rows = []
    for second, later in enumerate(frames):
        for first, earlier in enumerate(frames[:second]):
            mean, _ = overlap_moments(dimension, earlier.shape[1], later.shape[1])
            flipped = float(leverages(earlier) @ leverages(later)) / min(earlier.shape[1], later.shape[1])
            overlap = float(projection_overlap(earlier, later))
            nulls = (mean, flipped if sign_flips else mean, mean, norm_matched)
            rows.append((f"{first}.read", f"{second}.read", "stream", "read-read", 1, overlap, *nulls, 0.0))
    columns = ["source", "target", "space", "kind", "lag", "overlap", *NULL_MEANS, "overlap_excess"]
    nodes = node_table(graph, ["stream"])
    return bottleneck_table(possible_pairs(pd.DataFrame(rows, columns=columns), nodes), nodes)


def effective_dimension(frames):
    """From the eigenvalues of the sum of the projectors themselves."""
    eigenvalues = torch.linalg.eigvalsh(sum(frame @ frame.mT for frame in frames))
    return float(eigenvalues.sum() ** 2 / eigenvalues.square().sum())


def test_effective_dimension_equals_that_of_the_sum_of_projectors():
    frames = [random_frame(20, rank, seed=rank) for rank in (1, 3, 4, 7)]
    row = measured(frames).iloc[0]
    assert row["value"] == pytest.approx(effective_dimension(frames))
    assert (row["subspaces"], row["total_rank"], row["dimension"]) == (4, 15, 20)


def test_equal_subspaces_use_their_rank_and_orthogonal_ones_the_sum():
    frame = random_frame(20, 20, seed=0)
    assert measured([frame[:, :3]] * 5)["value"].tolist() == pytest.approx([3])
    assert measured([frame[:, :3], frame[:, 3:8]])["value"].tolist() == pytest.approx([8])


def test_null_agrees_with_haar_draws():
    drawn = [[random_frame(24, 4, seed=6 * draw + number) for number in range(6)] for draw in range(400)]
    values = np.array([effective_dimension(frames) for frames in drawn])
    row = measured(drawn[0]).iloc[0]
    assert row["null_mean"] == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(400))
    assert row["largest_null"] == row["null_mean"]


def loud_frames(count, *, seed):
    """Frames of rank 4 in 24 dimensions of which four coordinates are ten times as loud."""
    scales = torch.ones(24, 1, dtype=torch.float64)
    scales[:4] = 10
    return [torch.linalg.qr(scales * random_frame(24, 4, seed=seed + number)).Q for number in range(count)]


def test_largest_null_agrees_with_flipped_signs():
    frames = loud_frames(6, seed=0)
    rng = torch.Generator().manual_seed(0)
    flips = [[2.0 * torch.randint(2, (24, 1), generator=rng) - 1 for _ in frames] for _ in range(400)]
    flipped = [[sign * frame for sign, frame in zip(signs, frames, strict=True)] for signs in flips]
    values = np.array([effective_dimension(drawn) for drawn in flipped])
    row = measured(frames, sign_flips=True).iloc[0]
    assert row["largest_null"] == pytest.approx(values.mean(), rel=0.01)


def test_loud_channels_are_no_bottleneck_beyond_the_largest_null():
    row = measured(loud_frames(6, seed=0), sign_flips=True).iloc[0]
    assert row["value"] < 0.5 * row["null_mean"]
    assert row["share_of_null"] == pytest.approx(row["value"] / row["largest_null"])
    assert row["share_of_null"] > 0.9


def test_norm_matched_weights_count_where_they_were_drawn():
    frames = [random_frame(20, 3, seed=seed) for seed in range(3)]
    without, drawn = measured(frames).iloc[0], measured(frames, norm_matched=0.7).iloc[0]
    assert (without["matched"], drawn["matched"]) == (0, 1)
    assert drawn["largest_null"] == pytest.approx(81 / (9 + 6 * 0.7 * 3))
    assert drawn["null_mean"] == without["largest_null"]


def test_a_planted_bottleneck_stands_out():
    plane = random_frame(40, 2, seed=0)
    frames = [torch.linalg.qr(torch.cat([plane, random_frame(40, 2, seed=seed)], dim=1)).Q for seed in range(1, 7)]
    row = measured(frames).iloc[0]
    assert row["share_of_null"] < 0.8


def test_heads_count_only_where_their_projection_is_not_whole():
    frames = [random_frame(20, 3, seed=seed) for seed in range(4)]
    mixed = measured(frames, heads=[-1, 0, 0, 1], layers=[0, 0, 1, 1]).iloc[0]
    assert mixed["subspaces"] == 3
    assert mixed["value"] == pytest.approx(effective_dimension([frames[0], *frames[2:]]))
    assert measured(frames, heads=[0, 1, 2, 3])["subspaces"].tolist() == [4]


def test_both_sides_of_a_space_are_measured_apart():
    network = toy({}, layers=3)
    table = bottleneck_table(network.possible, network.nodes).set_index("side")
    assert table["subspaces"].to_dict() == {"read": 10, "write": 7}
    assert table["share_of_null"].tolist() == pytest.approx([1, 1])  # overlaps of exactly the mean


def test_a_single_subspace_is_no_space_to_compare():
    network = toy({}, layers=1, roles=("up", "down"), embed=False, unembed=False)
    assert bottleneck_table(network.possible, network.nodes).empty
