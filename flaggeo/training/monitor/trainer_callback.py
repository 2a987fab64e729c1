"""The monitor as a callback of transformers' Trainer."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

from .monitor import Monitor


class TrainerMonitor(TrainerCallback):
    """Watch what a Trainer trains: ``Trainer(..., callbacks=[TrainerMonitor("run", every=100)])``.

    Needs transformers: ``pip install "flaggeo[transformers]"``.

    Parameters
    ----------
    folder : str or Path
        New or empty, or that of the run which continues from a checkpoint.
    **options
        Of `Monitor`. Gradients are those that the optimizer used, and a step is one of the optimizer, however many
        batches were accumulated for it.
    """

    def __init__(self, folder: str | Path, **options: Any) -> None:
        self._folder, self._options = folder, options
        self._monitor: Monitor | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *rest: Any, **kwargs: Any) -> None:
        """Begin to watch, also where a run continues."""
        self._monitor = Monitor(kwargs["model"], self._folder, start=state.global_step, **self._options)

    def on_optimizer_step(self, *given: Any, **kwargs: Any) -> None:
        """Count a step, while the gradients are still there."""
        if self._monitor is not None:
            self._monitor.step()

    def on_train_end(self, *given: Any, **kwargs: Any) -> None:
        """Record the last step."""
        if self._monitor is not None:
            self._monitor.close()
