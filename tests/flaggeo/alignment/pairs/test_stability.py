import numpy as np
import pytest
import torch

from flaggeo import analyze, load
from flaggeo.alignment.pairs.stability import DEVIATIONS, QUESTIONED, rotation, rounding_loss
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from tests.builders import CONFIG, HIDDEN, WIDTH, random_frame, tiny_llama

MEASURE = ("pairs", "stability")


def planted(shared, strengths, generator, noise=0.5):
    """A matrix that writes strongly into a few directions, some of them shared, above a noisy rest."""
    rows, rank = shared.shape[0], len(strengths)
    own = torch.randn(rows, rank - shared.shape[1], generator=generator, dtype=torch.float64)
    written = torch.linalg.qr(torch.cat([shared, own], dim=1)).Q
    read = torch.linalg.qr(torch.randn(48, rank, generator=generator, dtype=torch.float64)).Q
    rest = torch.randn(rows, 48, generator=generator, dtype=torch.float64)
    return written * torch.tensor(strengths, dtype=torch.float64) @ read.mT + noise * rest


def overlap(first, second, rank):
    return float((first[:, :rank].mT @ second[:, :rank]).square().sum() / rank)


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_three_standard_deviations_of_what_noise_does(seed):
    """Against 200 noisy copies, decomposed by LAPACK. Directions beyond those at hand are taken at their worst."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    matrices = [planted(shared, strengths, generator) for strengths in ([30, 20, 14, 12], [25, 18, 13, 12])]
    rank, noise = 4, 0.1
    spectra = [leading_spectrum(matrix, 2 * rank) for matrix in matrices]
    turns = tuple(rotation(spectrum, rank, Side.WRITE, noise) for spectrum in spectra)
    frames = [spectrum.leading(rank).frame(Side.WRITE) for spectrum in spectra]
    expected = float(rounding_loss(turns[0], [turns[1]])) / DEVIATIONS
    changes = []
    for _ in range(200):
        noisy = [
            torch.linalg.svd(matrix + noise * torch.randn(64, 48, generator=generator, dtype=torch.float64)).U
            for matrix in matrices
        ]
        changes.append(overlap(*noisy, rank) - overlap(*frames, rank))
    # 200 draws know a standard deviation to 5 %; the bound may be larger by half.
    assert 0.85 * np.std(changes) < expected < 1.6 * np.std(changes)


def test_a_subspace_and_itself_can_lose_nothing_to_first_order():
    spectrum = leading_spectrum(planted(random_frame(64, 2, seed=0), [30, 20, 14], torch.Generator().manual_seed(0)), 6)
    turn = rotation(spectrum, 3, Side.WRITE, 0.1)
    assert float(rounding_loss(turn, [turn])) == pytest.approx(0, abs=1e-6)


def test_directions_of_equal_value_turn_as_far_as_they_can_and_no_further():
    turn = rotation(leading_spectrum(torch.diag(torch.tensor([2.0, 1.0, 1.0, 0.5])), 4), 2, Side.READ, 1e-3)
    assert turn.towards[0, 1] == 1 / 8  # sin(2 angle) / 2, over all angles
    assert turn.towards[1, 0] == pytest.approx(1e-6 * (4 + 0.25) / (4 - 0.25) ** 2)


def network(mix=None, dtype=torch.float32):
    """Layer 0's down writes eight directions, in one order of strength, and layer 2's gate reads them, mixed or not."""
    tensors = tiny_llama()
    shared = random_frame(WIDTH, 8, seed=7)
    generator = torch.Generator().manual_seed(8)
    writes = torch.diag(torch.tensor([9.0, 8, 7, 6, 5, 4, 3, 2])).double()
    inner = random_frame(HIDDEN, 8, seed=9), random_frame(HIDDEN, 8, seed=10)
    tensors["model.layers.0.mlp.down_proj.weight"] = (shared @ writes @ inner[0].mT).to(dtype)
    mixed = shared if mix is None else mix(shared, generator)
    tensors["model.layers.2.mlp.gate_proj.weight"] = (inner[1] @ writes @ mixed.mT).to(dtype)
    return load(tensors, config=CONFIG)


def row(analysis):
    table = analysis.stability.set_index(["source", "target"])
    return table.loc[("layers.0.down.write", "layers.2.gate.read")]


def test_a_shared_flag_stands_at_every_rank_and_a_common_span_alone_does_not_at_half():
    whole = row(analyze(network(), rank=4, measure=MEASURE))
    assert whole[["half_rank_excess", "double_rank_excess", "rounded_excess"]].to_numpy(float) == pytest.approx(
        1, abs=1e-4
    )
    # The same four directions in the opposite order: the two leading ones are orthogonal.
    turned = row(analyze(network(lambda shared, _: shared[:, [3, 2, 1, 0, 7, 6, 5, 4]]), rank=4, measure=MEASURE))
    assert turned["half_rank_excess"] < 0
    assert turned["half_rank_q_value"] == pytest.approx(1)
    assert turned["rounded_excess"] == pytest.approx(1, abs=1e-4)
    assert turned["rounded_q_value"] < 0.01


def test_coarser_storage_costs_more():
    """Each layer's gate reads partly the same directions: an overlap that noise can move."""
    fine, coarse = (
        row(analyze(network(partly, dtype=dtype), rank=4, measure=MEASURE))["rounding_loss"]
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert coarse == pytest.approx(fine * 2**16, rel=0.2)


def partly(shared, generator):
    noise = torch.randn(shared.shape, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(shared + 0.1 * noise).Q


def test_significant_pairs_are_asked_on_request_and_the_pairs_are_the_same():
    plain = analyze(network(), rank=4, measure=("pairs",))
    asked = analyze(network(), rank=4, measure=MEASURE)
    assert plain.stability.empty
    passes = (asked.pairs["overlap_q_value"] <= QUESTIONED) & (asked.pairs["overlap_excess"] > 0)
    ends = ["source", "target", "kind"]
    assert asked.stability[ends].equals(asked.pairs.loc[passes, ends].reset_index(drop=True))
    assert 0 < len(asked.stability) < len(asked.pairs)
    numbers = ["overlap", "overlap_excess", "overlap_p_value"]
    assert asked.pairs[numbers].to_numpy() == pytest.approx(plain.pairs[numbers].to_numpy(), abs=1e-9, nan_ok=True)
