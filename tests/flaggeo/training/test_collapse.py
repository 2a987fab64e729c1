"""Neural Collapse: planted features, and the definition by covariances."""

import pytest
import torch

from flaggeo.training.collapse import collapse
from manifolds import orthonormalize

CLASSES, EACH, DIM = 4, 30, 7


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TARGETS = (torch.arange(CLASSES * EACH) % CLASSES)[None]
AXES = orthonormalize(gaussian(DIM, DIM)).mT
SIMPLEX = (torch.eye(CLASSES, dtype=torch.float64) - 1 / CLASSES) @ AXES[:CLASSES]


def test_a_planted_collapse_is_complete():
    found = collapse((SIMPLEX + 3 * AXES[-1])[TARGETS[0]][None], TARGETS, 5 * SIMPLEX[None])
    for name, value in vars(found).items():
        assert value.item() == pytest.approx(0, abs=1e-12), name


def test_it_is_what_the_covariances_give():
    features, classifier = gaussian(1, CLASSES * EACH, DIM, seed=1) + SIMPLEX[TARGETS[0]], gaussian(1, CLASSES, DIM)
    found = collapse(features, TARGETS, classifier)
    samples = features[0]
    means = torch.stack([samples[TARGETS[0] == one].mean(dim=0) for one in range(CLASSES)])
    centred = means - samples.mean(dim=0)
    within = (samples - means[TARGETS[0]]).mT @ (samples - means[TARGETS[0]]) / len(samples)
    between = centred.mT @ centred / CLASSES
    spread = torch.trace(within @ torch.linalg.pinv(between, rtol=1e-10)) / CLASSES
    assert found.spread.item() == pytest.approx(spread.item())
    assert found.unequal_norms.item() == pytest.approx(
        (centred.norm(dim=1).std(correction=0) / centred.norm(dim=1).mean()).item()
    )
    nearest = (samples[:, None] - means).norm(dim=-1).argmin(dim=1)
    assert found.other_class.item() == pytest.approx(
        ((samples @ classifier[0].mT).argmax(dim=1) != nearest).double().mean().item()
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_rotation_and_scales_change_nothing(seed):
    features, classifier = gaussian(2, CLASSES * EACH, DIM, seed=seed), gaussian(2, CLASSES, DIM, seed=9)
    turned = orthonormalize(gaussian(DIM, DIM, seed=20 + seed))
    one = collapse(features, TARGETS.expand(2, -1), classifier)
    other = collapse(2 * features @ turned, TARGETS.expand(2, -1), 3 * classifier @ turned)
    for name, value in vars(one).items():
        assert torch.allclose(value, getattr(other, name)), name


def test_a_classifier_against_the_means_is_as_far_as_can_be():
    found = collapse(SIMPLEX[TARGETS[0]][None], TARGETS, -SIMPLEX[None])
    assert found.classifier.item() == pytest.approx(2)
    assert found.other_class.item() == 1
