"""PEFT adapters: a folder of low-rank changes, read as the checkpoint that merging them would give."""

import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from .files import load_json_object
from .protocol import Checkpoint, CheckpointError, Progress, TensorHeader

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<factor>[AB])(?:\.weight)?")


def is_adapter(path: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (path / CONFIG_NAME).is_file()


@dataclass(frozen=True)
class _LowRank:
    """One target: where its two factors are, and how their product is added."""

    first: str
    second: str
    scale: float
    transposed: bool


class AdaptedCheckpoint(Checkpoint):
    """A base checkpoint with the low-rank changes of a PEFT adapter added, in float64 where it changes.

    Parameters
    ----------
    base : Checkpoint
        With the tensor names that the adapter was trained on.
    folder : Path
        Holds ``adapter_config.json`` and ``adapter_model.safetensors``.

    Attributes
    ----------
    base : Checkpoint
    changed : frozenset of str
        The tensors that differ from the base.

    Raises
    ------
    CheckpointError
        If the adapter is of another kind than LoRA, incomplete, or made for other tensors.

    Notes
    -----
    The change of a weight W is ``scale * B A``, with scale = lora_alpha / r, or lora_alpha / sqrt(r) with
    ``use_rslora``; tensors that the adapter holds in full (``modules_to_save``) replace those of the base.
    Biases are not matrices and are left out.
    """

    def __init__(self, base: Checkpoint, folder: Path) -> None:
        self.base = base
        self.location = str(folder)
        self.config = base.config
        self.aliases = dict(base.aliases)
        self.naming = base.naming  # type: ignore[misc]  # of the class everywhere else
        self._file = folder / WEIGHTS_NAME
        self._settings_file = folder / CONFIG_NAME
        self._settings = _settings(self._settings_file)
        self._alphas = _alphas(self._settings_file, self._settings.get("alpha_pattern"))
        if not self._file.is_file():
            raise CheckpointError(f"{self._file}: expected the weights of an adapter, found no such file")
        self._stored = self._open()
        self._low_rank: dict[str, _LowRank] = {}
        self._replaced: dict[str, str] = {}
        self._sort_tensors()
        self.changed = frozenset(self._low_rank) | frozenset(self._replaced)
        self.headers = {
            name: self._header(header) if name in self.changed else header for name, header in base.headers.items()
        }
        self.remember_files()
        ranks = sorted({self._shape(change.first)[0] for change in self._low_rank.values()})
        self.metadata = {**base.metadata, "adapter": f"LoRA of rank {', '.join(map(str, ranks)) or 'none'}"}

    def _open(self) -> Any:
        try:
            return safe_open(self._file, framework="pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self._file}: expected a complete safetensors file, found: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the file itself, and needs no patterns any more."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_stored", "_alphas")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._stored = self._open()

    def _sort_tensors(self) -> None:
        factors: dict[tuple[str, bool], dict[str, str]] = {}
        for name in self._stored.offset_keys():
            match = _FACTOR.fullmatch(name)
            if match:
                key = match["module"], match["embedding"] is not None
                factors.setdefault(key, {})[match["factor"]] = name
            elif not name.endswith(".bias"):
                target = self._target(name.removesuffix(".weight"), name)
                self._require_one_change(target, name, self._replaced)
                self._replaced[target] = name
        for (module, embedding), pair in factors.items():
            if len(pair) == 1:
                [(factor, name)] = pair.items()
                raise self._error(name, "factors A and B of a change", f"{factor} alone")
            transposed = embedding or bool(self._settings.get("fan_in_fan_out"))
            target = self._target(module, pair["A"])
            rank = self._shape(pair["A"])[0]
            change = _LowRank(pair["A"], pair["B"], self._scale(module, rank), transposed)
            self._require_fit(change, target)
            self._require_one_change(target, pair["A"], self._replaced)
            self._require_one_change(target, pair["A"], {name: one.first for name, one in self._low_rank.items()})
            self._low_rank[target] = change
        if not factors:
            raise CheckpointError(f"{self._file}: expected tensors named lora_A and lora_B, found none")

    def _target(self, module: str, name: str) -> str:
        """Name of the base's tensor that a module of the adapter stands for."""
        target = module.removeprefix(_PREFIX) + ".weight"
        # Adapters of a causal model name its body by one prefix more than a checkpoint of the body alone.
        for candidate in (target, target.removeprefix("model.")):
            if candidate in self.base.headers:
                return candidate
        if target in self.base.aliases:
            return self.base.aliases[target]
        hint = ": an adapter needs its base as safetensors" if self.base.naming == "gguf" else ""
        raise self._error(name, f"a change of a tensor of {self.base.location}", f"no {target!r} there{hint}")

    def _scale(self, module: str, rank: int) -> float:
        # A pattern of the settings names a module by the end of its path.
        own = (alpha for pattern, alpha in self._alphas if pattern.fullmatch(module))
        alpha = next(own, _number(self._settings_file, "lora_alpha", self._settings.get("lora_alpha", 8)))
        return alpha / (math.sqrt(rank) if self._settings.get("use_rslora") else rank)

    def _require_one_change(self, target: str, name: str, others: Mapping[str, str]) -> None:
        if target in others:
            raise self._error(name, f"one change of {target!r}", f"also {others[target]!r}")

    def _require_fit(self, change: _LowRank, target: str) -> None:
        (rank, columns), (rows, second_rank) = self._shape(change.first), self._shape(change.second)
        expected = self.base.headers[target].shape
        product = (columns, rows) if change.transposed else (rows, columns)
        if rank != second_rank or product != expected:
            raise self._error(
                change.first,
                f"factors whose product has the shape {expected} of {target!r}",
                f"A of shape {(rank, columns)} and B of shape {(rows, second_rank)}",
            )

    def _header(self, header: TensorHeader) -> TensorHeader:
        if header.name in self._replaced:
            view = self._stored.get_slice(self._replaced[header.name])
            return TensorHeader(header.name, tuple(view.get_shape()), view.get_dtype(), str(self._file))
        return replace(header, dtype="F64", file=str(self._file))

    def _shape(self, name: str) -> tuple[int, int]:
        view = self._stored.get_slice(name)
        shape, dtype = view.get_shape(), view.get_dtype()
        if dtype not in self.readable_dtypes:
            raise self._error(name, f"one of the dtypes {', '.join(sorted(self.readable_dtypes))}", dtype)
        if len(shape) != 2 or 0 in shape:
            raise self._error(name, "a matrix", f"shape {tuple(shape)}")
        return shape[0], shape[1]

    def fetch(self, names: Iterable[str], progress: Progress | None = None) -> None:
        """Bring what is changed onto this machine."""
        self.base.fetch([name for name in names if name not in self._replaced], progress)

    def require_readable(self, name: str) -> None:
        """Raise, from the header alone, if the numbers of a tensor cannot be had."""
        if name in self._replaced:
            super().require_readable(name)
        else:
            self.base.require_readable(name)

    def _error(self, tensor: str, expected: str, found: str) -> CheckpointError:
        return CheckpointError(f"{self._file}: tensor {tensor!r}: expected {expected}, found {found}")

    def _read(self, name: str, rows: slice) -> "Tensor":
        if name in self._replaced:
            replaced: Tensor = self._stored.get_slice(self._replaced[name])[rows]
            return replaced
        base = self.base.read(name, rows=rows)
        if name not in self._low_rank:
            return base
        change = self._low_rank[name]
        first, second = (self._stored.get_tensor(factor).double() for factor in (change.first, change.second))
        product = (second @ first).mT if change.transposed else second @ first
        merged: Tensor = base.double() + change.scale * product[rows]
        return merged


def _settings(file: Path) -> Mapping[str, Any]:
    settings = load_json_object(file, "the settings of an adapter")
    kind = str(settings.get("peft_type", "LORA"))
    found = f"the kind {kind}" if kind.upper() != "LORA" else "use_dora" if settings.get("use_dora") else ""
    if found:
        raise CheckpointError(
            f"{file}: expected a LoRA adapter, whose changes are scale * B A, found {found}: merge it into its base "
            "and compare the merged checkpoint"
        )
    for name in ("use_rslora", "fan_in_fan_out"):
        if settings.get(name) not in (None, True, False):
            raise CheckpointError(f"{file}: {name}: expected true or false, found {settings[name]!r}")
    return settings


def _alphas(file: Path, patterns: Any) -> list[tuple[Any, float]]:
    """What matches the names of modules, by RE2, whose time grows with their length alone, and the alpha of each."""
    if not patterns:
        return []
    import re2

    if not isinstance(patterns, dict):
        raise CheckpointError(f"{file}: alpha_pattern: expected patterns with numbers, found {patterns!r}")
    quiet = re2.Options()
    quiet.log_errors = False
    found = []
    for pattern, alpha in patterns.items():
        try:
            matcher = re2.compile(rf"(?:.*\.)?(?:{pattern})", quiet)
        except re2.error as error:
            reason = error.args[0].decode(errors="replace")
            raise CheckpointError(
                f"{file}: alpha_pattern: expected a regular expression that RE2 knows, found {pattern!r}: {reason}"
            ) from None
        found.append((matcher, _number(file, f"alpha_pattern {pattern!r}", alpha)))
    return found


def _number(file: Path, field: str, found: Any) -> float:
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    # Whole numbers can be too large for a float.
    if not is_number or not abs(found) < sys.float_info.max:
        raise CheckpointError(f"{file}: {field}: expected a number, found {str(found)[:60]}")
    return float(found)
