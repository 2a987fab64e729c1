import itertools

import pytest
import torch

from flaggeo import load
from flaggeo.alignment.chance import norm_matched_law
from flaggeo.alignment.chance.norm_matched import norm_matched
from flaggeo.alignment.chance.norm_matched_law import (
    LAW_ERROR,
    norm_matched_cosine,
    norm_matched_leverages,
    norm_matched_overlap,
)
from flaggeo.alignment.chance.sign_flip import leverages
from flaggeo.numerics.spectrum import leading_frames
from manifolds import abs_cosine_moments, overlap_moments

M, N, RANK, DRAWS = 192, 256, 8, 20
EVEN = torch.ones(N, dtype=torch.float64)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def lognormal(sigma, count=M, seed=0):
    return (sigma * torch.randn(count, generator=seeded(seed), dtype=torch.float64)).exp()


def loud(channels, norm):
    rows = torch.ones(M, dtype=torch.float64)
    rows[:channels] = norm
    return rows


PROFILES = {
    "even": loud(0, 1),
    "one row of 30 times the norm": loud(1, 30),
    "one row of 3 times the norm": loud(1, 3),
    "ten rows of 30 times the norm": loud(10, 30),
    "ten rows of 5 times the norm": loud(10, 5),
    "lognormal": lognormal(1),
    "narrow lognormal": lognormal(0.5),
}


def laws(rows, columns, rank):
    left, right = norm_matched_leverages(rows[None], columns[None], torch.tensor([rank]))
    return left[0], right[0]


def drawn_frames(rows, columns, rank, *, draws=DRAWS, base=0):
    """Leading left and right frames of independent surrogates, shape=[draws, n, rank]."""
    columns = columns * (rows.norm() / columns.norm())
    found = [
        leading_frames(norm_matched(rows.float(), columns.float(), seeded(base + seed)), rank) for seed in range(draws)
    ]
    right, left = (torch.stack(frames).double() for frames in zip(*found, strict=True))
    return left, right


def drawn_means(first, second):
    """Mean |cos| of first vectors and mean overlap, of every surrogate of one kind with every one of another."""
    cosines = (first[:, None, :, 0] * second[None, :, :, 0]).sum(dim=-1).abs().mean()
    products = torch.einsum("ank,bnl->abkl", first, second)
    return float(cosines), float(products.square().sum(dim=(-2, -1)).mean() / first.shape[-1])


@pytest.mark.parametrize("name", PROFILES)
def test_it_agrees_with_draws(name):
    rows = PROFILES[name]
    first, second = (drawn_frames(rows, EVEN, RANK, base=base) for base in (100, 200))
    for side in (0, 1):
        line, subspace = (laws(rows, EVEN, rank)[side][None] for rank in (1, RANK))
        cosine, overlap = drawn_means(first[side], second[side])
        assert float(norm_matched_cosine(line, line)[0]) == pytest.approx(cosine, abs=LAW_ERROR)
        assert float(norm_matched_overlap(subspace, subspace)[0]) == pytest.approx(overlap, abs=LAW_ERROR)


def test_equal_norms_give_equal_leverages_and_the_moments_of_uniform_subspaces():
    for rank in (1, RANK):
        for of_side in laws(PROFILES["even"], EVEN, rank):
            n = len(of_side)
            assert of_side.tolist() == pytest.approx([rank / n] * n, rel=1e-9)
            mean, sd = norm_matched_overlap(of_side, of_side)
            exact_mean, exact_sd = overlap_moments(n, rank, rank)
            assert (float(mean), float(sd)) == (pytest.approx(exact_mean), pytest.approx(exact_sd, rel=0.02))
    for of_side in laws(PROFILES["even"], EVEN, 1):
        mean, sd = norm_matched_cosine(of_side, of_side)
        exact_mean, exact_sd = abs_cosine_moments(len(of_side))
        assert (float(mean), float(sd)) == (pytest.approx(exact_mean, rel=0.01), pytest.approx(exact_sd, rel=0.01))


def test_an_outlier_row_takes_the_first_direction_and_leaves_the_others_alone():
    left, right = laws(PROFILES["one row of 30 times the norm"], EVEN, 2)
    assert left[0] == pytest.approx(1, abs=5e-3)
    assert left[1:].tolist() == pytest.approx([1 / (M - 1)] * (M - 1), rel=0.01)
    assert right.tolist() == pytest.approx([2 / N] * N, rel=1e-6)


@pytest.mark.parametrize("rank", [1, RANK])
def test_leverages_are_between_0_and_1_and_sum_to_the_rank(rank):
    for rows, columns in itertools.product(PROFILES.values(), (EVEN, lognormal(0.7, N, seed=1))):
        for of_side in laws(rows, columns, rank):
            assert 0 <= float(of_side.min()) <= float(of_side.max()) <= 1
            assert float(of_side.sum()) == pytest.approx(rank, rel=2e-3)


def test_channels_may_be_permuted_norms_scaled_and_the_matrix_transposed():
    rows, columns = lognormal(0.8), lognormal(0.5, N, seed=1)
    left, right = laws(rows, columns, RANK)
    order = torch.randperm(M, generator=seeded(3))
    permuted, same = laws(1e-8 * rows[order], 1e8 * columns, RANK)
    torch.testing.assert_close(permuted, left[order], rtol=1e-6, atol=0)
    torch.testing.assert_close(same, right, rtol=1e-6, atol=0)
    right_first, left_second = laws(columns, rows, RANK)
    torch.testing.assert_close(left_second, left, rtol=1e-6, atol=0)
    torch.testing.assert_close(right_first, right, rtol=1e-6, atol=0)


def test_a_matrix_alone_gives_the_bits_that_it_gives_in_a_batch():
    rows, ranks = torch.stack(list(PROFILES.values())), torch.tensor([1, RANK, 0, 3, 1, RANK, 1])
    columns = torch.stack([lognormal(0.1 * place, N, seed=place) for place in range(len(rows))])
    together = norm_matched_leverages(rows, columns, ranks)
    for place in range(len(rows)):
        alone = norm_matched_leverages(rows[place, None], columns[place, None], ranks[place, None])
        assert all(torch.equal(one[0], many[place]) for one, many in zip(alone, together, strict=True))


def test_more_points_and_steps_change_little(monkeypatch):
    rows, columns = torch.stack(list(PROFILES.values())), EVEN.expand(len(PROFILES), -1)
    ranks = torch.tensor([1, RANK, 1, 3, 1, RANK, 1])
    usual = norm_matched_leverages(rows, columns, ranks)
    finer = {"_POINTS": 48, "_NEAREST": 1e-5, "_NEWTON_STEPS": 3, "_STEPS_OF_FIXED_NORMS": 8, "_GROUPS": 100}
    for name, value in finer.items():
        monkeypatch.setattr(norm_matched_law, name, value)
    for ours, better in zip(usual, norm_matched_leverages(rows, columns, ranks), strict=True):
        torch.testing.assert_close(ours, better, rtol=0, atol=0.02)


def test_zero_channels_have_no_leverage_and_as_many_directions_as_channels_fill_them():
    rows, columns = lognormal(0.5, 6), lognormal(0.5, 9, seed=1)
    rows[2], columns[0] = 0, 0
    left, right = laws(rows, columns, 5)
    assert left.tolist() == [1, 1, 0, 1, 1, 1]
    assert right[0] == 0
    assert float(right.sum()) == pytest.approx(5)
    assert [of_side.tolist() for of_side in laws(rows[:2], columns[1:3], 2)] == [[1, 1], [1, 1]]
    nothing = norm_matched_leverages(torch.zeros(1, 4), torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64))
    assert [of_side.tolist() for of_side in nothing] == [[[0] * 4], [[0] * 3]]


def test_all_directions_of_a_wide_block_are_those_of_draws():
    """A head: a block of few rows, of which all directions are compared."""
    rows, columns = lognormal(0.5, 16), lognormal(0.7, N, seed=1)
    _, right = laws(rows, columns, 16)
    scales = torch.outer(rows, columns)
    blocks = [scales * torch.randn(16, N, generator=seeded(seed), dtype=torch.float64) for seed in range(100)]
    drawn = torch.stack([leverages(torch.linalg.qr(block.mT).Q) for block in blocks]).mean(dim=0)
    torch.testing.assert_close(right, drawn, rtol=0, atol=0.1)
    assert float((right - drawn).abs().mean()) < 0.01


@pytest.fixture(scope="session")
def real_norms(smollm2_file, minilm_folder):
    """Norms of the weights of a model by role, from the first layer on."""

    def of(model, layers):
        network, found = load({"smollm2": smollm2_file, "minilm": minilm_folder}[model]), {}
        for weight in network.weights:
            if weight.head is None and weight.layer in layers:
                matrix = network.matrix(weight).double()
                norms = [torch.linalg.vector_norm(matrix, dim=dim) for dim in (1, 0)]
                found.setdefault(weight.role, []).append(norms)
        return found

    return of


def holds_on_a_model(norms, draws=DRAWS):
    for role, of_layers in norms.items():
        rows, columns = (torch.stack(of_end) for of_end in zip(*of_layers, strict=True))
        ranks = torch.ones(len(rows), dtype=torch.int64)
        lines, subspaces = (norm_matched_leverages(rows, columns, rank * ranks) for rank in (1, 16))
        frames = [
            drawn_frames(*of_layer, 16, draws=draws, base=10_000 * layer) for layer, of_layer in enumerate(of_layers)
        ]
        for side in (0, 1):
            drawn = [drawn_means(one[side], other[side]) for one, other in itertools.pairwise(frames)]
            cosine, overlap = torch.tensor(drawn).mean(dim=0).tolist()
            law = norm_matched_cosine(lines[side][:-1], lines[side][1:])[0].mean()
            assert float(law) == pytest.approx(cosine, abs=LAW_ERROR), (role, side)
            law = norm_matched_overlap(subspaces[side][:-1], subspaces[side][1:])[0].mean()
            assert float(law) == pytest.approx(overlap, abs=0.01), (role, side)


def test_it_agrees_with_draws_for_some_layers_of_smollm2(real_norms):
    holds_on_a_model(real_norms("smollm2", (14, 15)), draws=6)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "layers"), [("smollm2", range(30)), ("minilm", range(6))])
def test_it_agrees_with_draws_for_all_roles(real_norms, model, layers):
    holds_on_a_model(real_norms(model, layers))
