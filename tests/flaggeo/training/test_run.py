"""The trainer, held against torch's own optimisers run by run."""

from dataclasses import replace

import pytest
import torch

from flaggeo.training.models import Chain, Mlp
from flaggeo.training.run import Recipe, accuracy, train
from flaggeo.training.tasks import gaussian_classes, prototypes, teacher_regression

SEEDS = (1, 2, 3)
CHAIN = Chain((16, 6, 4), (1.0, 0.7), "tanh")


def own_training(model, task, seed, steps, make):
    """One run with a loss of its own, by torch's optimiser as it comes."""
    parameters = {name: tensor.requires_grad_() for name, tensor in model.initial([seed]).items()}
    optimizer = make(list(parameters.values()))
    for _ in range(steps):
        optimizer.zero_grad()
        task.loss(model(parameters, task.inputs), task.targets).sum().backward()
        optimizer.step()
    return parameters


RECIPES = {
    "ridge": (Recipe(20, 0.1, ridge=0.2), lambda weights: torch.optim.SGD(weights, lr=0.1, weight_decay=0.2)),
    "momentum": (Recipe(20, 0.1, momentum=0.9), lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9)),
    "coupled": (Recipe(20, 0.01, "adam", ridge=0.2), lambda weights: torch.optim.Adam(weights, 0.01, weight_decay=0.2)),
    "decoupled": (
        Recipe(20, 0.01, "adamw", decay=0.2),
        lambda weights: torch.optim.AdamW(weights, 0.01, weight_decay=0.2),
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_run_is_what_torch_makes_of_it_alone(name):
    recipe, make = RECIPES[name]
    history = train(CHAIN, teacher_regression(SEEDS, "relu"), recipe, SEEDS)
    for run, seed in enumerate(SEEDS):
        expected = own_training(CHAIN, teacher_regression([seed], "relu"), seed, 20, make)
        for weight, of_run in expected.items():
            assert torch.allclose(history.last[weight][run], of_run[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batched_runs_are_those_of_single_seeds(dtype):
    model = Mlp(64, 12, 3, 10, residual=True, activation="gelu", norm="layernorm")
    recipe = Recipe(40, 3e-3, "adam", batch=16)

    def trained(seeds):
        return train(model, prototypes(seeds, train=300, test=10), recipe, seeds, dtype=dtype)

    together, alone = trained(SEEDS), trained(SEEDS[1:2])
    tolerance = 1e-3 if dtype is torch.float32 else 1e-10
    for name in together.last:
        for part in ("last", "first_gradient", "gradient_sum"):
            difference = getattr(together, part)[name][1] - getattr(alone, part)[name][0]
            assert difference.abs().max() <= tolerance * getattr(alone, part)[name].abs().max()


def test_ridge_may_differ_from_run_to_run():
    task = teacher_regression(SEEDS, "linear")
    ridges = (0.0, 0.1, 0.5)
    together = train(CHAIN, task, Recipe(10, 0.05, ridge=ridges), SEEDS)
    for run, ridge in enumerate(ridges):
        alone = train(CHAIN, task, Recipe(10, 0.05, ridge=ridge), SEEDS)
        assert torch.allclose(together.last["W1"][run], alone.last["W1"][run], rtol=1e-12)


def test_plain_descent_moves_by_the_sum_of_its_gradients():
    task = teacher_regression(SEEDS, "relu")
    history = train(CHAIN, task, Recipe(30, 0.05, batch=8), SEEDS, recorded=[10])
    for name, total in history.gradient_sum.items():
        assert torch.allclose(history.first[name] - history.last[name], 0.05 * total)
    assert sorted(history.snapshots) == [0, 10, 30]


def test_the_first_gradient_is_that_of_the_first_step_and_the_last_that_of_the_next():
    task = teacher_regression(SEEDS, "relu")
    history = train(CHAIN, task, Recipe(5, 0.05, ridge=0.3), SEEDS)
    assert torch.allclose(train(CHAIN, task, Recipe(1, 0.05), SEEDS).gradient_sum["W2"], history.first_gradient["W2"])
    longer = train(CHAIN, task, Recipe(6, 0.05, ridge=0.3), SEEDS)
    assert torch.allclose(longer.gradient_sum["W1"] - history.gradient_sum["W1"], history.last_gradient["W1"])


def test_the_last_fifth_may_have_another_rate():
    task = teacher_regression(SEEDS, "relu")
    recipe = Recipe(10, 0.05, final_rate=0.0)
    assert torch.equal(
        train(CHAIN, task, recipe, SEEDS).last["W1"],
        train(CHAIN, task, replace(recipe, steps=8, final_rate=None), SEEDS).last["W1"],
    )


def test_the_rate_rises_and_falls_along_a_cosine():
    recipe = Recipe(100, 0.1, warmup=20)
    assert [recipe.rate_at(step) for step in (1, 10, 20, 50, 100)] == pytest.approx(
        [0.1 / 20 * 0.99978, 0.1 / 2 * 0.97798, 0.1 * 0.91406, 0.1 * 0.55, 0.1 * 0.1], rel=1e-4
    )
    assert {Recipe(100, 0.1).rate_at(step) for step in (1, 50, 100)} == {0.1}


def test_each_run_is_clipped_alone():
    longest = 0.7
    recipe = Recipe(10, 0.05, "adamw", betas=(0.8, 0.95), decay=0.1, clip=longest)
    task = teacher_regression(SEEDS, "relu")
    history = train(CHAIN, task, recipe, SEEDS)
    for run, seed in enumerate(SEEDS):
        alone = teacher_regression([seed], "relu")
        weights = {name: tensor.requires_grad_() for name, tensor in CHAIN.initial([seed]).items()}
        optimizer = torch.optim.AdamW(weights.values(), 0.05, betas=(0.8, 0.95), weight_decay=0.1)
        lengths = []
        for _ in range(10):
            optimizer.zero_grad()
            alone.loss(CHAIN(weights, alone.inputs), alone.targets).sum().backward()
            lengths.append(torch.nn.utils.clip_grad_norm_(weights.values(), longest).item())
            optimizer.step()
        assert min(lengths) < longest < max(lengths)
        for name, weight in weights.items():
            assert torch.allclose(history.last[name][run], weight[0], rtol=1e-9, atol=1e-12)


def test_a_network_learns_and_progress_is_told():
    model = Mlp(16, 16, 2, 4, residual=True, activation="relu")
    task = replace(data := gaussian_classes(SEEDS), test_inputs=data.inputs, test_targets=data.targets)
    told = []
    history = train(model, task, Recipe(200, 1e-2, "adam"), SEEDS, progress=lambda *steps: told.append(steps))
    before, after = (accuracy(model, parameters, task) for parameters in (history.first, history.last))
    assert (after > 0.95).all()
    assert (before < 0.6).all()
    assert told == [(50, 200), (100, 200), (150, 200), (200, 200)]


def test_data_of_another_number_of_runs_is_refused():
    with pytest.raises(ValueError, match="data of 3 runs, one for each seed; found 2"):
        train(CHAIN, teacher_regression(SEEDS[:2], "relu"), Recipe(1, 0.1), SEEDS)


def test_moving_averages_are_those_of_the_gradients():
    """At rate 0 all gradients are equal: after t steps the average has 1 - beta^t of it, and with beta = 0 all."""
    task = teacher_regression(SEEDS, "relu")
    history = train(CHAIN, task, Recipe(5, 0.0), SEEDS, smoothed=(0.0, 0.9))
    for name, total in history.gradient_sum.items():
        assert torch.allclose(history.smoothed[0.0][name], total / 5)
        assert torch.allclose(history.smoothed[0.9][name], (1 - 0.9**5) * total / 5)
