"""The monitor as a callback of Lightning."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from .monitor import Monitor


class LightningMonitor(Callback):
    """Watch what Lightning trains: ``Trainer(..., callbacks=[LightningMonitor("run", every=100)])``.

    Needs Lightning: ``pip install "flaggeo[lightning]"``.

    Parameters
    ----------
    folder : str or Path
        New or empty, or that of the run which continues from a checkpoint.
    submodule : str, optional
        Name of the network in the LightningModule, if it is not the module itself: ``"model"``.
    **options
        Of `Monitor`. A step is one of the optimizer, however many batches were accumulated for it. Without an
        `example`, that is the module's ``example_input_array``, if it is watched itself.
    """

    def __init__(self, folder: str | Path, submodule: str = "", **options: Any) -> None:
        self._folder, self._submodule, self._options = folder, submodule, options
        self._monitor: Monitor | None = None
        self._counted = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to watch, also where a run continues."""
        options = dict(self._options)
        if not self._submodule and pl_module.example_input_array is not None:
            options.setdefault("example", pl_module.example_input_array)
        self._counted = trainer.global_step
        watched = pl_module.get_submodule(self._submodule)
        self._monitor = Monitor(watched, self._folder, start=self._counted, **options)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Count what steps this batch made, if any."""
        steps, self._counted = trainer.global_step - self._counted, trainer.global_step
        for _ in range(steps if self._monitor is not None else 0):
            assert self._monitor is not None
            self._monitor.step()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the last step."""
        if self._monitor is not None:
            self._monitor.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record the last step of a run that fails or is interrupted."""
        self.on_train_end(trainer, pl_module)
