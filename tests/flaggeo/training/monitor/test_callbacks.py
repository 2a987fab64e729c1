"""Callbacks with the real libraries, on networks that train in a second."""

import shutil

import numpy as np
import pytest
import torch

from flaggeo import Monitor
from flaggeo.training.monitor.records import read_record, steps_in
from tests.flaggeo.training.monitor.builders import Residual, trained

# What the libraries warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

DATA = torch.randn(24, 24, generator=torch.Generator().manual_seed(1))


def assert_recorded(folder, steps, module):
    """The last record is that of the module as it is now, and gradients were there."""
    assert steps_in(folder) == steps
    weights = read_record(folder, steps[-1])["weights"]
    expected = np.linalg.svd(module.inner[1].weight.detach().numpy(), compute_uv=False)[0]
    row = weights[(weights["layer"] == 1) & ~weights["name"].str.contains("update|gradient")]
    assert row["sigma_max"].item() == pytest.approx(expected, rel=1e-5)
    assert set(weights["name"].str.partition(".")[0]) == {"layers", "update", "gradient"}


@pytest.fixture(scope="module")
def lightning_module():
    lightning = pytest.importorskip("lightning.pytorch")

    class Wrapped(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.network = Residual()
            self.example_input_array = torch.zeros(2, 24)

        def forward(self, x):
            return self.network(x)

        def training_step(self, batch, _):
            return (self(batch[0]) - batch[0].flip(0)).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Wrapped


@pytest.mark.parametrize("submodule", ["", "network"])
def test_lightning_steps_are_those_of_the_optimizer(tmp_path, lightning_module, submodule):
    import lightning.pytorch as lightning

    from flaggeo.training.monitor import LightningMonitor

    def fit(callbacks):
        module = lightning_module()
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(DATA), batch_size=4)
        trainer = lightning.Trainer(
            max_epochs=2, accumulate_grad_batches=2, callbacks=callbacks, default_root_dir=tmp_path,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            accelerator="cpu",
        )  # fmt: skip
        trainer.fit(module, loader)
        return module

    options = {"every": 2, "rank": 4, "gradients": True}
    options |= {"example": torch.zeros(2, 24)} if submodule else {}
    watched = fit([LightningMonitor(tmp_path / "run", submodule, **options)])
    assert_recorded(tmp_path / "run", [0, 2, 4, 6], watched.network)  # 2 epochs of 6 batches, 2 a step
    alone = fit([])
    for first, second in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(first, second)


def test_lightning_goes_on_from_a_save(tmp_path, lightning_module):
    import lightning.pytorch as lightning

    from flaggeo.training.monitor import LightningMonitor

    class Failing(lightning_module):
        def training_step(self, batch, number):
            if self.global_step == 5 and not goes_on:
                raise RuntimeError("planted")
            return super().training_step(batch, number)

    def fit(save):
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(DATA), batch_size=8)
        trainer = lightning.Trainer(
            max_epochs=3, callbacks=[LightningMonitor(tmp_path / "run", every=2, rank=4, gradients=True)],
            default_root_dir=tmp_path, logger=False, enable_progress_bar=False, enable_model_summary=False,
            accelerator="cpu",
        )  # fmt: skip
        module = Failing()
        trainer.fit(module, loader, ckpt_path=save)
        return module

    goes_on = False
    with pytest.raises(RuntimeError, match="planted"):
        fit(None)
    assert steps_in(tmp_path / "run") == [0, 2, 4, 5]
    goes_on = True
    module = fit(next(tmp_path.rglob("*step=3.ckpt")))
    assert_recorded(tmp_path / "run", [0, 2, 3, 4, 6, 8, 9], module.network)


def test_lightning_closes_where_training_fails(tmp_path, lightning_module):
    import lightning.pytorch as lightning

    from flaggeo.training.monitor import LightningMonitor

    class Failing(lightning_module):
        def training_step(self, batch, number):
            if number == 3:
                raise RuntimeError("planted")
            return super().training_step(batch, number)

    trainer = lightning.Trainer(
        max_epochs=1, callbacks=[LightningMonitor(tmp_path / "run", every=100, rank=4)], default_root_dir=tmp_path,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu",
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(DATA), batch_size=4)
    with pytest.raises(RuntimeError, match="planted"):
        trainer.fit(Failing(), loader)
    assert steps_in(tmp_path / "run") == [0, 3]


@pytest.mark.parametrize("goes_on", [False, True])
def test_the_trainer_of_transformers_is_watched(tmp_path, goes_on):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from flaggeo.training.monitor import TrainerMonitor

    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    tokens = torch.randint(40, (16, 8), generator=torch.Generator().manual_seed(2))
    rows = [{"input_ids": row, "labels": row} for row in tokens]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=5,
        report_to=[], save_strategy="steps", save_steps=2, use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    monitor = TrainerMonitor(tmp_path / "run", every=2, rank=4, gradients=True)
    transformers.Trainer(model, arguments, train_dataset=rows, callbacks=[monitor]).train()
    if goes_on:
        shutil.rmtree(tmp_path / "run" / "step-000000000004")
        again = TrainerMonitor(tmp_path / "run", every=2, rank=4, gradients=True)
        trainer = transformers.Trainer(model, arguments, train_dataset=rows, callbacks=[again])
        trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert steps_in(tmp_path / "run") == [0, 2, 4, 5]
    weights = read_record(tmp_path / "run", 5)["weights"].set_index("name")
    matrix = model.model.layers[1].mlp.up_proj.weight.detach().numpy()
    assert weights.loc["layers.1.up", "sigma_max"] == pytest.approx(np.linalg.svd(matrix, compute_uv=False)[0])
    # The optimizer's last gradients are gone when training ends.
    assert [read_record(tmp_path / "run", step)["weights"]["role"].eq("gradient.up").sum() for step in (2, 4, 5)] == [
        2,
        2,
        0,
    ]
    interfaces = read_record(tmp_path / "run", 5)["interfaces"]
    assert set(interfaces["kind"]) == {"up-down", "gate-down"}


def test_tensorboard_takes_the_flat_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    def log(numbers, step):
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    module = Residual()
    example = torch.zeros(2, 24)
    with (
        SummaryWriter(str(tmp_path / "board")) as writer,
        Monitor(module, tmp_path / "run", every=2, rank=4, example=example, log=log) as monitor,
    ):
        trained(module, monitor.step, steps=4)
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    tags = events.Tags()["scalars"]
    assert any(tag.startswith("continuity/") for tag in tags)
    drift = next(tag for tag in tags if tag.startswith("drift_degrees/"))
    assert [event.step for event in events.Scalars(drift)] == [0, 2, 4]
    assert events.Scalars(drift)[0].value == pytest.approx(0, abs=1e-4)
    assert events.Scalars(drift)[-1].value > 0
