"""What a common mean of the entries accounts for, against all sign patterns and against weights that have one."""

import itertools
import math

import pytest
import torch

from flaggeo.alignment.chance.mean_matched import (
    mean_basis,
    mean_matched_at_every_rank,
    mean_matched_flipped,
    mean_matched_moments,
    mean_part,
    mean_share,
)
from flaggeo.alignment.chance.sign_flip import leverages, sign_flips_of_lines
from flaggeo.numerics.spectrum import leading_spectrum
from tests.builders import random_frame
from tests.flaggeo.alignment.builders import gaussian

READS, WRITES = 96, 64


def frames_and_norms(n=7):
    """Frames of several widths, with channels of several norms; the last have equal ones."""
    frames = [random_frame(n, width, seed=width) for width in (1, 2, 3, 3)]
    norms = [gaussian(n, seed=9 + number).exp() for number in range(3)]
    return frames, [*norms, torch.full((n,), 0.3, dtype=torch.float64)]


def of_all_signs(first, second, norms):
    """P' Q, and what each pair of a rest with a rest or with a mean part has in common under every sign pattern.

    The parts are cut to what the two can share: a rest to the outside of its own plane, which random signs leave, and a
    mean part to the outside of the other plane. Each is scaled as if uniform where it is.
    """
    n = len(first)
    identity = torch.eye(n, dtype=torch.float64)
    planes = [mean_part(identity, of_channels) for of_channels in norms]
    (part, other), (left, other_left) = zip(
        *((plane @ frame, frame - plane @ frame) for plane, frame in zip(planes, (first, second), strict=True)),
        strict=True,
    )
    constant = torch.full((n, n), 1 / n, dtype=torch.float64)
    rooms = [identity - plane for plane in planes]
    lines = [plane - constant for plane in planes]
    signs = torch.tensor(list(itertools.product([1.0, -1.0], repeat=n)), dtype=torch.float64)[:, :, None]
    met = []
    for one, two, room, other_room in (
        (left, other_left, rooms[0], rooms[1]),
        (lines[0] @ first, other_left, lines[0], rooms[1]),
        (left, lines[1] @ second, rooms[0], lines[1]),
    ):
        ranks = room.trace() * other_room.trace()
        scale = n * (room @ other_room).trace().clamp(min=0) / ranks if ranks > 0.5 else torch.zeros(())
        met.append(scale.sqrt() * (one.mT @ (signs * two)))
    return part.mT @ other, torch.stack(met)


def test_the_basis_is_orthonormal_and_spans_the_constant_vector_and_the_norms():
    norms = gaussian(3, 11, seed=0).exp()
    basis = mean_basis(norms)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(2, dtype=torch.float64).expand(3, 2, 2))
    for vector in (norms, torch.ones_like(norms)):
        torch.testing.assert_close(mean_part(vector[..., None], norms)[..., 0], vector)


def test_channels_of_equal_norm_leave_the_constant_vector_alone():
    norms = torch.full((9,), 0.1) * (1 + 1e-7 * torch.randn(9, generator=torch.Generator().manual_seed(0)))
    assert mean_basis(norms)[:, 1].tolist() == [0] * 9
    frame = random_frame(9, 2, seed=1).float()
    torch.testing.assert_close(mean_part(frame, norms), frame.mean(dim=0).expand(9, 2))


def test_the_share_is_the_square_of_the_cosine_with_the_span():
    norms, line = gaussian(12, seed=2).exp(), random_frame(12, 3, seed=3)
    basis = torch.linalg.qr(torch.stack([torch.ones(12, dtype=torch.float64), norms], dim=1)).Q
    assert mean_share(line, norms) == pytest.approx(float((basis.mT @ line[:, 0]).square().sum()))
    assert math.isnan(mean_share(line[:, :0], norms))


def test_means_are_those_of_all_sign_patterns():
    frames, norms = frames_and_norms()
    means, _ = mean_matched_moments(frames, norms)
    for (i, first), (j, second) in itertools.product(enumerate(frames), repeat=2):
        kept, met = of_all_signs(first, second, (norms[i], norms[j]))
        expected = kept.square().sum() + met.square().sum(dim=(2, 3)).mean(dim=1).sum()
        assert float(means[i, j]) == pytest.approx(float(expected))


def test_the_spread_is_that_of_what_meets_the_mean_parts():
    frames, norms = frames_and_norms()
    _, spreads = mean_matched_moments(frames, norms)
    for (i, first), (j, second) in itertools.product(enumerate(frames), repeat=2):
        kept, met = of_all_signs(first, second, (norms[i], norms[j]))
        linear = 2 * (kept * met).sum(dim=(2, 3))
        assert float(spreads[i, j]) == pytest.approx(float(linear.var(dim=1, correction=0).sum().sqrt()))


@pytest.mark.parametrize("varying", [(0, 0), (0, 0.4), (0.4, 0.4)], ids=["equal norms", "one varies", "both vary"])
def test_uniform_subspaces_keep_their_mean(varying):
    n, r, s, samples = 12, 3, 4, 1000
    norms = [(scale * gaussian(n, seed=20 + place)).exp() for place, scale in enumerate(varying)]
    pairs = [(random_frame(n, r, seed=seed), random_frame(n, s, seed=samples + seed)) for seed in range(samples)]
    means = torch.stack([mean_matched_moments(pair, norms)[0][0, 1] for pair in pairs])
    # Four standard errors of the mean of the samples.
    assert float(means.mean()) == pytest.approx(r * s / n, abs=4 * float(means.std()) / samples**0.5)


def test_subspaces_that_share_a_mean_inside_a_head_are_expected():
    """Half of a narrow space, where the norms of the channels of either weight vary by chance, each in its own way."""
    found = []
    for seed in range(20):
        weights = [0.3 + gaussian(32, 128, seed=2 * seed + place) for place in range(2)]
        first, second = (torch.linalg.svd(weight, full_matrices=False).U[:, :16] for weight in weights)
        norms = tuple(torch.linalg.vector_norm(weight, dim=1) for weight in weights)
        expected = mean_matched_at_every_rank(first, second, norms)[-1]
        found.append(((first.mT @ second).square().sum() / 16, expected / 16))
    measured, expected = torch.tensor(found).mT
    error = float(measured.std()) / len(found) ** 0.5
    assert float(measured.mean()) > 0.5 + 2 * error
    assert float(measured.mean()) == pytest.approx(float(expected.mean()), abs=2 * error)


def test_every_rank_is_the_mean_of_as_many_leading_directions():
    frames, norms = frames_and_norms()
    first, second = frames[2:]
    curve = mean_matched_at_every_rank(first, second, (norms[0], norms[1]))
    for k in (1, 2, 3):
        mean, _ = mean_matched_moments([first[:, :k], second[:, :k]], norms[:2])
        assert float(curve[k - 1]) == pytest.approx(float(mean[0, 1]))


def test_a_batch_is_its_pairs_one_by_one():
    first, second = (torch.stack([random_frame(9, 3, seed=seed) for seed in seeds]) for seeds in ((0, 1), (2, 3)))
    norms = gaussian(2, 9, seed=4).exp(), gaussian(2, 9, seed=5).exp()
    together = mean_matched_at_every_rank(first, second, norms)
    for place in range(2):
        alone = mean_matched_at_every_rank(first[place], second[place], (norms[0][place], norms[1][place]))
        torch.testing.assert_close(together[place], alone)


def test_directions_without_a_mean_have_the_sign_flip_null_of_what_is_outside_of_the_constant_vector():
    """Two of a basis that is orthogonal to the constant vector, in channels of equal norm."""
    frame = torch.linalg.qr(torch.cat([torch.ones(8, 1, dtype=torch.float64), gaussian(8, 4, seed=6)], dim=1)).Q
    frames = [frame[:, 1:3], frame[:, 2:5]]
    means, spreads = mean_matched_moments(frames, [torch.ones(8, dtype=torch.float64)] * 2)
    assert float(means[0, 1]) == pytest.approx(8 / 7 * float(leverages(frames[0]) @ leverages(frames[1])))
    assert spreads.numpy() == pytest.approx(0, abs=1e-12)


def test_numbers_do_not_depend_on_signs_and_turns_of_the_frames_nor_on_the_order_of_channels():
    frames, norms = frames_and_norms()
    turned = [frame @ random_frame(*2 * (frame.shape[1],), seed=7) for frame in frames]
    order = torch.randperm(len(norms[0]), generator=torch.Generator().manual_seed(8))
    expected = mean_matched_moments(frames, norms)
    for found in (
        mean_matched_moments(turned, norms),
        mean_matched_moments([frame[order] for frame in frames], [of_channels[order] for of_channels in norms]),
        mean_matched_moments(frames, [3 * of_channels for of_channels in norms]),
    ):
        torch.testing.assert_close(found, expected)


def test_a_turn_of_the_space_moves_the_numbers():
    frames, norms = frames_and_norms()
    turn = random_frame(7, 7, seed=10)
    before, after = (mean_matched_moments(those, norms)[0] for those in (frames, [turn @ frame for frame in frames]))
    assert float((before - after).abs().max()) > 0.01


def scaled(matrix, rows, columns, *, seed):
    """The matrix with lognormal scales of its rows and columns of these standard deviations of the logarithm."""
    m, n = matrix.shape
    return (rows * gaussian(m, seed=seed)).exp()[:, None] * matrix * (columns * gaussian(n, seed=7)).exp()


def line_and_part(weight):
    spectrum = leading_spectrum(weight, 1)
    return spectrum.right[:, 0], mean_part(spectrum.right, spectrum.column_norms)[:, 0]


def chance_of(first, second):
    """Cosine of two first directions with its mean and p-value under the mean-matched null."""
    (line, part), (other, its_part) = line_and_part(first), line_and_part(second)
    mean, p_value, _ = map(float, sign_flips_of_lines(line, other, kept=part * its_part))
    return float((line @ other).abs()), mean, p_value


@pytest.mark.parametrize(
    ("mean", "rows", "columns"),
    [(0.3, 0, 0), (0.3, 0, 0.25), (1.0, 0.5, 0.5), (-0.3, 0.3, 0)],
    ids=["equal scales", "gains of the columns", "lognormal scales", "negative mean"],
)
def test_directions_that_a_common_mean_makes_are_expected(mean, rows, columns):
    """The columns have scales that all weights share, the rows of each their own."""
    weights = [scaled(mean + gaussian(READS, WRITES, seed=seed), rows, columns, seed=50 + seed) for seed in range(8)]
    weights[1] = -weights[1]
    found = [chance_of(*pair) for pair in itertools.pairwise(weights)]
    cosines, means, p_values = zip(*found, strict=True)
    assert sum(cosines) / len(found) > 0.5
    assert sum(means) / len(found) == pytest.approx(sum(cosines) / len(found), abs=0.05)
    assert min(p_values) > 0.05


@pytest.mark.parametrize("noise", [0.01, 1.0], ids=["rank one", "in noise"])
@pytest.mark.parametrize("mean", [0.0, 0.1])
def test_a_direction_that_two_weights_share_stays_improbable(mean, noise):
    """Though it is all that the column means of a weight of low rank are made of."""
    shared = random_frame(WRITES, 1, seed=1)
    weights = [
        60 * random_frame(READS, 1, seed=20 + seed) @ shared.mT + noise * (mean + gaussian(READS, WRITES, seed=seed))
        for seed in range(2)
    ]
    cosine, expected, p_value = chance_of(*weights)
    assert cosine > 0.9
    assert expected < 0.25
    assert p_value < 1e-6


def test_what_is_added_to_whole_rows_is_expected_where_the_channels_read_alike():
    """W + r 1': every row reads the constant direction, whatever r."""
    weights = [gaussian(READS, WRITES, seed=seed) + 5 * gaussian(READS, 1, seed=30 + seed) for seed in range(2)]
    cosine, mean, p_value = chance_of(*weights)
    assert cosine > 0.99
    assert mean == pytest.approx(cosine, abs=1e-3)
    assert p_value > 0.3


def test_a_kept_part_of_two_lines_is_that_of_all_sign_patterns():
    """Every coordinate gone through: the mean, how often the sum is as large, and as large as it can be."""
    first, second = (random_frame(8, 1, seed=seed)[:, 0] for seed in (11, 12))
    kept = 0.4 * first * second + 0.02
    signs = torch.tensor(list(itertools.product([1.0, -1.0], repeat=8)), dtype=torch.float64)
    sums = (kept + signs * (first * second - kept)).sum(dim=1).abs()
    largest = kept.sum().abs() + (first * second - kept).abs().sum()
    expected = [float(sums.mean())]
    expected += [float((sums >= level - 1e-9).double().mean()) for level in ((first @ second).abs(), largest)]
    found = sign_flips_of_lines(first, second, kept=kept)
    assert [float(value) for value in found] == pytest.approx(expected, abs=1e-5)


def all_signs(n):
    return torch.tensor(list(itertools.product([1.0, -1.0], repeat=n)), dtype=torch.float64)


def test_flipped_frames_keep_their_mean_parts_and_the_size_of_what_is_left():
    frame, norms = random_frame(7, 3, seed=1), gaussian(7, seed=2).exp()
    for signs in all_signs(7)[::9]:
        flipped = mean_matched_flipped(frame, norms, signs)
        torch.testing.assert_close(mean_part(flipped, norms), mean_part(frame, norms))
        assert float(flipped.square().sum()) == pytest.approx(3)
    torch.testing.assert_close(mean_matched_flipped(frame, norms, torch.ones(7).double()), frame)


def test_a_frame_of_means_alone_stays_as_it_is():
    norms = gaussian(7, seed=2).exp()
    basis = mean_basis(norms)
    for signs in all_signs(7)[::17]:
        torch.testing.assert_close(mean_matched_flipped(basis, norms, signs), basis)


@pytest.mark.parametrize("mean", [0.0, 0.3, 3.0])
def test_drawn_overlaps_have_the_mean_of_the_null_that_needs_no_draws(mean):
    """Two weights with a common mean and norms of channels of their own."""
    weights = [(mean + gaussian(40, 24, seed=seed)) * gaussian(24, seed=10 + seed).mul(0.3).exp() for seed in (1, 2)]
    frames = [leading_spectrum(weight, 3).right for weight in weights]
    norms = [weight.norm(dim=0) for weight in weights]
    signs = 2.0 * torch.randint(0, 2, (1500, 2, 24), generator=torch.Generator().manual_seed(0)) - 1
    drawn = []
    for of_draw in signs:
        one, other = map(mean_matched_flipped, frames, norms, of_draw)
        drawn.append(float((one.mT @ other).square().sum()))
    drawn, (closed, _) = torch.tensor(drawn), mean_matched_moments(frames, norms)
    # The scales of the closed form are those of uniform frames.
    error = 5 * float(drawn.std()) / 1500**0.5
    assert float(drawn.mean()) == pytest.approx(float(closed[0, 1]), abs=error + 0.05 * float(closed[0, 1]))
