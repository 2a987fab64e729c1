"""Keras: the datasets of an HDF5 file, ``.h5`` or ``.weights.h5``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..dtypes import as_tensor, numpy_spelling
from ..extras import required
from ..protocol import Checkpoint, CheckpointError, TensorHeader, reason, shortened
from .inflation import require_plausible

#: Where a whole model, as Keras 2 saved it, has its weights.
_MODEL = "model_weights/"
_OPTIMIZER = "optimizer"


class KerasCheckpoint(Checkpoint):
    """Datasets of one HDF5 file; ``/`` in their names becomes ``.``.

    Parameters
    ----------
    location : Path
        The file.
    config : mapping
        Contents of ``config.json``.

    Raises
    ------
    CheckpointError
        If h5py is not installed; if the file is corrupt or cut short, refers to other files or other datasets, or a
        dataset claims another size than it has.

    Notes
    -----
    Numbers are as Keras keeps them, transposed to torch's: dense kernels are (in, out), those of convolutions (height,
    width, in, out). `metadata` says so under ``layout``.
    """

    def __init__(self, location: Path, config: Mapping[str, Any]) -> None:
        self.location = str(location)
        self.config = config
        self._file = location
        h5py = required("h5py", "keras", location)
        self.headers: dict[str, TensorHeader] = {}
        self.aliases: dict[str, str] = {}
        self._paths: dict[str, str] = {}
        try:
            with h5py.File(location, "r") as file:
                left_out = self._add_datasets(file)
        except CheckpointError:
            raise
        except Exception as error:  # h5py raises whatever HDF5 meets first in a malformed file
            raise CheckpointError(f"{location}: expected a complete HDF5 file, found: {reason(error)}") from error
        self.metadata = {"format": "keras", "layout": "keras"}
        if left_out:
            self.metadata["left out"] = shortened(left_out)

    def _add_datasets(self, file: Any) -> list[str]:
        """Fill in the headers; the datasets that are not the network's are returned."""
        import h5py

        links: list[tuple[str, Any]] = []
        # h5py loses an exception raised inside.
        file.visititems_links(lambda path, link: links.append((path, link)))
        left_out, first_names, claimed = [], dict[int, str](), 0
        for path, link in links:
            if not isinstance(link, h5py.HardLink):
                raise self._error(path, "a group or a dataset", f"a {type(link).__name__} to {link.path!r}")
            dataset = file[path]
            if not isinstance(dataset, h5py.Dataset):
                continue
            name = path.removeprefix(_MODEL).replace("/", ".")
            if path.startswith(_OPTIMIZER):
                left_out.append(name)
                continue
            first = first_names.setdefault(h5py.h5o.get_info(dataset.id).addr, name)
            if first != name:
                self.aliases[name] = first
                continue
            self._require_own_numbers(path, dataset)
            claimed += dataset.nbytes
            if name in self._paths:
                raise self._error(path, "one dataset of its name", f"also {self._paths[name]!r}")
            self._paths[name] = path
            self.headers[name] = TensorHeader(name, dataset.shape, _spelling(dataset), self.location)
        require_plausible(claimed, self._file.stat().st_size)
        return left_out

    def _require_own_numbers(self, path: str, dataset: Any) -> None:
        stored = dataset.id.get_storage_size()
        problems = {
            "none": dataset.shape is None,
            "those of other files": bool(dataset.external),
            "those of other datasets": dataset.is_virtual,
            f"{stored} bytes for {dataset.nbytes}": dataset.chunks is None and stored != dataset.nbytes,
        }
        found = next((problem for problem, there in problems.items() if there), None)
        if found:
            raise self._error(path, "numbers in the file, as many as its shape says", found)

    def _error(self, path: str, expected: str, found: str) -> CheckpointError:
        return CheckpointError(f"{self.location}: dataset {path!r}: expected {expected}, found {found}")

    def _read(self, name: str, rows: slice) -> Tensor:
        import h5py

        with h5py.File(self._file, "r") as file:
            dataset = file[self._paths[name]]
            array = dataset[()] if rows == slice(None) else dataset[rows]
        if self.headers[name].dtype == "BF16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return as_tensor(np.asarray(array))


def _spelling(dataset: Any) -> str:
    # HDF5 has no bfloat16: Keras stores two bytes without a type, and says in an attribute what they are.
    if dataset.dtype == np.dtype("V2") and "dtype" in dataset.attrs and dataset.attrs["dtype"] == "bfloat16":
        return "BF16"
    return numpy_spelling(dataset.dtype)
