import pytest
import torch

from flaggeo.alignment import ProjectionHeads, head_table
from flaggeo.alignment.heads.composition import (
    COMPOSITION_SCORE,
    CompositionPair,
    composed_factors,
    composition_null,
    traceless_norms,
)
from manifolds import uniform_frame
from tests.flaggeo.alignment.builders import gaussian

N, WIDTH = 12, 3


def network(seed=0, queries=4, key_values=2):
    """Matrices of two layers, shape=[heads, w, n] for q, k, v and [heads, n, w] for o, and the same reduced."""
    matrices = {}
    for layer in range(2):
        for place, (role, count) in enumerate({"q": queries, "k": key_values, "v": key_values, "o": queries}.items()):
            shape = (count, N, WIDTH) if role == "o" else (count, WIDTH, N)
            matrices[layer, role] = gaussian(*shape, seed=100 * seed + 10 * layer + place)
    reduced = [
        ProjectionHeads(*key, *torch.linalg.qr(matrix if key[1] == "o" else matrix.mT))
        for key, matrix in matrices.items()
    ]
    return matrices, reduced


def readers_of(matrices, kind, head, group):
    """Full n x n maps through which the later layer reads with this head."""
    q, k, v, o = (matrices[1, role] for role in "qkvo")
    members = range(group * head, group * (head + 1))
    if kind == "OQ":
        return [k[head // group].mT @ q[head]]
    if kind == "OK":
        return [q[member].mT @ k[head] for member in members]
    return [o[member] @ v[head] for member in members]


@pytest.mark.parametrize(("queries", "key_values"), [(3, 3), (4, 2), (4, 1)])
def test_scores_are_those_of_the_full_maps(queries, key_values):
    """Elhage's score from n x n matrices; a key or value head reads through all heads of its group, stacked."""
    group = queries // key_values
    matrices, reduced = network(queries=queries, key_values=key_values)
    table = head_table(reduced)
    for row in table[table["kind"].isin(["OQ", "OK", "OV"])].itertuples():
        writer = matrices[0, "o"][row.source_head] @ matrices[0, "v"][row.source_head // group]
        maps = readers_of(matrices, row.kind, row.target_head, group)
        stacked = torch.cat(maps)
        expected = (stacked @ writer).norm() / (stacked.norm() * writer.norm())
        assert row.composition_score == pytest.approx(float(expected), rel=1e-10)
        energies = torch.stack([one.norm() ** 2 for one in maps])
        squares = torch.stack([((one @ writer).norm() / (one.norm() * writer.norm())) ** 2 for one in maps])
        weighted_mean = float((energies * squares).sum() / energies.sum())
        assert row.composition_score**2 == pytest.approx(weighted_mean, rel=1e-10)


def test_the_observable_measures_what_the_table_holds():
    _, reduced = network()
    heads = {(one.layer, one.role): one for one in reduced}
    table = head_table(reduced)
    row = table[(table["kind"] == "OQ") & (table["source_head"] == 1) & (table["target_head"] == 3)].iloc[0]
    writer = composed_factors(heads[0, "o"], heads[0, "v"])[1]
    reader = composed_factors(heads[1, "q"], heads[1, "k"])[3]
    # The scale of neither counts.
    assert float(COMPOSITION_SCORE.measure(CompositionPair(5 * writer, reader / 3))) == pytest.approx(
        row.composition_score
    )


def test_flat_spectra_give_the_projection_kernel():
    frames = uniform_frame(N, 3, (2,), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    score = COMPOSITION_SCORE.measure(CompositionPair(frames[0], 2 * frames[1]))
    kernel = (frames[0].mT @ frames[1]).square().sum()
    torch.testing.assert_close(score**2, kernel / 9)


def test_the_one_main_direction_of_both_gives_one_and_separate_ones_zero():
    axes = torch.eye(N, dtype=torch.float64)
    assert float(COMPOSITION_SCORE.measure(CompositionPair(axes[:, :1], -3 * axes[:, :1]))) == pytest.approx(1)
    assert float(COMPOSITION_SCORE.measure(CompositionPair(axes[:, :2], axes[:, 2:4]))) == 0


def test_a_map_of_zero_has_no_score():
    _, reduced = network()
    keys = next(one for one in reduced if (one.layer, one.role) == (1, "k"))
    keys.factors[0] = 0
    table = head_table(reduced)
    silent = table["kind"].eq("OK") & table["target_head"].eq(0) | table["kind"].eq("OQ") & table["target_head"].lt(2)
    assert table[silent]["composition_score"].isna().all()
    assert table[~silent & table["kind"].isin(["OQ", "OK", "OV"])]["composition_score"].notna().all()


def normalised(factor):
    return factor / factor.norm()


def test_mean_and_spread_of_the_square_against_random_rotations():
    writer, reader = normalised(gaussian(N, 3, seed=3)), normalised(gaussian(N, 2, seed=4) * torch.tensor([1.0, 5.0]))
    mean, spread = composition_null(N, traceless_norms(writer[None]), traceless_norms(reader[None]))
    rotations = uniform_frame(N, N, (20_000,), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    squares = (reader.mT @ rotations @ writer).square().sum(dim=(1, 2))
    error = float(squares.std()) / len(squares) ** 0.5
    assert float(squares.mean()) == pytest.approx(mean, abs=5 * error)
    assert mean == pytest.approx(1 / N)
    assert float(spread) == pytest.approx(float(squares.std()), rel=0.05)


def test_a_map_that_treats_all_directions_alike_leaves_nothing_to_chance():
    flat, other = normalised(torch.eye(N, dtype=torch.float64)), normalised(gaussian(N, 2, seed=6))
    _, spread = composition_null(N, traceless_norms(flat[None]), traceless_norms(other[None]))
    assert float(spread) == pytest.approx(0, abs=1e-8)
    one = torch.ones(1, 1, 1)
    assert composition_null(1, traceless_norms(one), traceless_norms(one)) == (1, 0)
