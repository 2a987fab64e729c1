"""ONNX: the initializers of a graph, under the names that the module's own state dict has for them."""

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..dtypes import as_tensor, spelling
from ..extras import required
from ..protocol import Checkpoint, CheckpointError, TensorHeader, reason

# By the names of ONNX's data types: the dtype, and the field of numbers that are not raw bytes.
_READABLE = {
    "FLOAT": (torch.float32, "float_data"),
    "DOUBLE": (torch.float64, "double_data"),
    "FLOAT16": (torch.float16, "int32_data"),
    "BFLOAT16": (torch.bfloat16, "int32_data"),
}
# What torch's two exporters call a tensor of their own making, such as the transpose of a weight.
_ANONYMOUS = re.compile(r"onnx::\w+|val_\d+")
# Where the newer of them says which modules a node comes from, outermost first and the function itself last.
_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True)
class _Initializer:
    """An initializer in the file, and whether it is the transpose of what the checkpoint shows."""

    stored: str
    transposed: bool


class OnnxCheckpoint(Checkpoint):
    """Initializers of the main graph of an ONNX file.

    Parameters
    ----------
    location : Path
        The file.
    config : mapping
        Contents of ``config.json``.

    Raises
    ------
    CheckpointError
        If onnx is not installed; if the file is corrupt or cut short, has no initializers, keeps numbers elsewhere
        than in files beside it, or an initializer claims another size than it has.

    Notes
    -----
    torch's exporters store the weight of a linear layer transposed and without its name where a ``MatMul`` takes it.
    It gets the name that a state dict has for it, after the module that the node comes from, and torch's order
    (out, in). Other initializers stay as they are. Numbers in the file itself are read into memory with it, those in
    files beside it on demand.
    """

    def __init__(self, location: Path, config: Mapping[str, Any]) -> None:
        self.location = str(location)
        self.config = config
        self._file = location
        self.headers: dict[str, TensorHeader] = {}
        self.aliases: dict[str, str] = {}
        self._places: dict[str, _Initializer] = {}
        model = self._load()
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        if not self._tensors:
            raise CheckpointError(f"{location}: expected an ONNX graph with initializers, found none")
        self.metadata = {"format": "onnx", "producer": f"{model.producer_name} {model.producer_version}".strip()}
        try:
            self._add_initializers(model.graph)
        except CheckpointError:
            raise
        except Exception as error:  # a message may lack any field
            raise CheckpointError(f"{location}: expected a complete ONNX graph, found: {reason(error)}") from error
        # protobuf gives what is no UTF-8 as bytes.
        undecoded = [name for name in (*self.headers, *self.aliases) if not isinstance(name, str)]
        if undecoded:
            raise CheckpointError(f"{location}: expected names of tensors in UTF-8, found {undecoded[0]!r}")

    def _load(self) -> Any:
        onnx = required("onnx", "onnx", self._file)
        try:
            return onnx.load(self._file, load_external_data=False)
        except Exception as error:  # protobuf's own kind
            raise CheckpointError(f"{self._file}: expected a complete ONNX file, found: {reason(error)}") from error

    def _add_initializers(self, graph: Any) -> None:
        recovered: dict[str, list[tuple[str, bool]]] = {}
        for stored, name, transposed in _uses_of_anonymous(graph):
            # A name that another tensor has is not the module's.
            if stored in self._tensors and len(self._tensors[stored].dims) == 2 and name not in self._tensors:
                recovered.setdefault(stored, []).append((name, transposed))
        for stored, tensor in self._tensors.items():
            (name, transposed), *others = recovered.get(stored, [(stored, False)])
            if name in self.headers:
                name, transposed = stored, False
            shape = tuple(tensor.dims)
            file = self._file_of(tensor)
            self._places[name] = _Initializer(stored, transposed)
            self.headers[name] = TensorHeader(
                name, shape[::-1] if transposed else shape, _spelling(tensor.data_type), str(file)
            )
            self.aliases |= {other: name for other, _ in others if other != name}
        for node in graph.node:
            if node.op_type == "Identity" and node.input[0] in self.headers and node.output[0] not in self.headers:
                self._add_repeated(node.output[0], node.input[0])

    def _add_repeated(self, name: str, first: str) -> None:
        """A further name: of one tied matrix, or of another vector that only had the same numbers, as norms do."""
        if len(self.headers[first].shape) > 1:
            self.aliases[name] = first
        else:
            self.headers[name] = replace(self.headers[first], name=name)
            self._places[name] = self._places[first]

    def _file_of(self, tensor: Any) -> Path:
        """Where the numbers of an initializer are, if as many are there as its shape says."""
        kind = _READABLE.get(_type_name(tensor.data_type))
        shape = tuple(tensor.dims)
        if kind is None:
            return self._file
        dtype, field = kind
        claimed = math.prod(shape) * dtype.itemsize
        place = _external_place(tensor)
        file = self._file.parent / place["location"] if place else self._file
        if not place:
            held = len(tensor.raw_data) if tensor.HasField("raw_data") else len(getattr(tensor, field)) * dtype.itemsize
        elif Path(place["location"]).name == place["location"] and file.is_file():
            rest = file.stat().st_size - int(place.get("offset", 0))
            held = min(int(place.get("length", rest)), rest) if rest <= file.stat().st_size else 0
        else:
            held = 0
        if held != claimed or any(size < 0 for size in shape):
            raise CheckpointError(
                f"{self._file}: initializer {tensor.name!r} of shape {shape}: expected {claimed} bytes here or in a "
                f"file beside this one, found {max(held, 0)}" + (f" in {place['location']!r}" if place else "")
            )
        return file

    def __getstate__(self) -> dict[str, Any]:
        """Another process reads the file itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_tensors"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tensors = {tensor.name: tensor for tensor in self._load().graph.initializer}

    def _read(self, name: str, rows: slice) -> Tensor:
        from onnx import numpy_helper

        place = self._places[name]
        tensor = self._tensors[place.stored]
        elsewhere = bool(_external_place(tensor))
        if elsewhere:
            tensor = _block_of(tensor, slice(None) if place.transposed else rows)
        # onnx itself looks after where the numbers beside the file are.
        array = numpy_helper.to_array(tensor, str(self._file.parent))
        numbers = as_tensor(array if array.dtype.kind == "f" else array.astype(np.float32))
        if place.transposed:
            return numbers.mT[rows]
        return numbers if elsewhere or rows == slice(None) else numbers[rows]


def _type_name(data_type: int) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(data_type))


def _spelling(data_type: int) -> str:
    name = _type_name(data_type)
    return spelling(_READABLE[name][0]) if name in _READABLE else name


def _external_place(tensor: Any) -> dict[str, str]:
    """What the file says of numbers that are elsewhere; nothing if they are not."""
    from onnx import TensorProto

    return (
        {entry.key: entry.value for entry in tensor.external_data}
        if tensor.data_location == TensorProto.EXTERNAL
        else {}
    )


def _block_of(tensor: Any, rows: slice) -> Any:
    """A copy of an initializer that is elsewhere, or of a block of its rows, for onnx to read the numbers into."""
    from onnx import StringStringEntryProto, TensorProto

    block = TensorProto()
    block.CopyFrom(tensor)
    if rows != slice(None):
        place = _external_place(tensor)
        first, behind, _ = rows.indices(tensor.dims[0])
        row_bytes = math.prod(tensor.dims[1:]) * _READABLE[_type_name(tensor.data_type)][0].itemsize
        place["offset"] = str(int(place.get("offset", 0)) + first * row_bytes)
        place["length"] = str((behind - first) * row_bytes)
        block.dims[0] = behind - first
        del block.external_data[:]
        block.external_data.extend(StringStringEntryProto(key=key, value=value) for key, value in place.items())
    return block


def _uses_of_anonymous(graph: Any) -> Iterator[tuple[str, str, bool]]:
    """Each anonymous weight that a linear layer takes: its stored name, the module's name for it, and if transposed."""
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm") and len(node.input) > 1 and _ANONYMOUS.fullmatch(node.input[1]):
            as_in_torch = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            if module := _module_of(node):
                yield node.input[1], f"{module}.weight", not as_in_torch


def _module_of(node: Any) -> str:
    """Path of the module that a node comes from; empty if the file does not say."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), None)
    if scopes is not None:
        return str(*ast.literal_eval(scopes)[-2:-1])
    path: list[str] = []
    for part in node.name.split("/")[1:-1]:
        # The children of a sequence are called after it.
        if path and part.startswith(path[-1] + "."):
            path.pop()
        path.append(part)
    return ".".join(path)
