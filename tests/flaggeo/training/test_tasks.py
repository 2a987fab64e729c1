"""The data: what is planted in it, and that no run's depends on another's."""

import pytest
import torch

from flaggeo.training import tasks

SEEDS = (1, 2)
TASKS = {
    "prototypes": lambda seeds: tasks.prototypes(seeds, train=400, test=100),
    "digits": tasks.digits,
    "gaussian classes": tasks.gaussian_classes,
    "linear teacher": lambda seeds: tasks.teacher_regression(seeds, "linear"),
    "relu teacher": lambda seeds: tasks.teacher_regression(seeds, "relu"),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_run_has_the_same_data_alone_and_beside_others(name):
    both, alone = TASKS[name](SEEDS), TASKS[name](SEEDS[1:])
    for part in ("inputs", "targets", "test_inputs", "test_targets"):
        assert torch.equal(getattr(both, part)[1:], getattr(alone, part))
    assert not torch.equal(both.inputs[0], both.inputs[1])


def unfitted_share(inputs, targets):
    """Of the square of the targets, what the best linear map leaves."""
    fitted = inputs @ torch.linalg.lstsq(inputs, targets).solution
    return (targets - fitted).square().sum() / targets.square().sum()


@pytest.mark.parametrize(("teacher", "fits"), [("linear", True), ("relu", False)])
def test_a_linear_map_fits_the_linear_teacher_alone(teacher, fits):
    task = tasks.teacher_regression(SEEDS, teacher)
    assert (unfitted_share(task.inputs, task.targets) < 1e-20) == fits


def test_prototypes_are_beyond_a_linear_classifier():
    task = tasks.prototypes([1], train=3000, test=1000)
    ones = torch.ones(1, 3000, 1)
    wanted = torch.nn.functional.one_hot(task.targets, 10).float()
    weights = torch.linalg.lstsq(torch.cat([task.inputs, ones], dim=-1), wanted).solution
    scores = torch.cat([task.test_inputs, ones[:, :1000]], dim=-1) @ weights
    assert 0.3 < (scores.argmax(dim=-1) == task.test_targets).float().mean() < 0.85
    assert task.inputs.min() >= 0
    assert task.inputs.max() <= 1


def test_digits_are_divided_without_a_sample_in_both_parts():
    task = tasks.digits([1])
    assert (task.inputs.shape[1], task.test_inputs.shape[1]) == (1500, 297)
    pixels = torch.cat([task.inputs, task.test_inputs], dim=1)
    assert pixels.sum().item() == pytest.approx(1797 * 64 * 0.30526, rel=1e-3)


def test_classes_are_equally_many():
    assert torch.bincount(tasks.gaussian_classes([1]).targets[0]).tolist() == [60] * 4


def test_losses_are_means_over_the_samples_of_a_run():
    outputs, classes = (
        torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([[0, 1, 2, 0, 1]] * 2),
    )
    expected = [torch.nn.functional.cross_entropy(one, classes[0]).item() for one in outputs]
    assert tasks.cross_entropy(outputs, classes).tolist() == pytest.approx(expected)
    assert tasks.half_squared_error(torch.ones(1, 4, 3), torch.zeros(1, 4, 3)).tolist() == [1.5]
